"""The staged, batched head against the stock forward; one vision pass per image; errors that stay with their item."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Sam3Model, Sam3Processor

from serve_app.config.models import SegmentationModel
from serve_app.config.schema import DeviceConfig
from serve_app.errors import DeviceOutOfMemory, InternalError, InvalidRequest
from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, PhraseFeatures

PHRASES = ["dog", "red sofa", "a very long phrase of many words", "x"]


def load(folder: Path, **fields: object) -> Sam3Segmenter:
    return Sam3Segmenter.load(SegmentationModel(model_name=str(folder), device="cpu", **fields), DeviceConfig())


@pytest.fixture(scope="module")
def segmenter(small_checkpoint: Path) -> Sam3Segmenter:
    return load(small_checkpoint)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    sizes = [(48, 64), (90, 40), (56, 56), (31, 77)]
    return [rng.integers(0, 256, (*sizes[index % 4], 3), dtype=np.uint8) for index in range(count)]


def sound(outcomes: Sequence[object], kind: type) -> list[object]:
    assert all(isinstance(outcome, kind) for outcome in outcomes), outcomes
    return [*outcomes]


def found(segmenter: Sam3Segmenter, images: Sequence[NDArray[np.uint8]], phrases: Sequence[str], threshold: float):
    features = sound(segmenter.encode([segmenter.prepare(image) for image in images]), ImageFeatures)
    embedded = sound(segmenter.embed(phrases), PhraseFeatures)
    pairs = [Pair(image, phrase, threshold) for image in features for phrase in embedded]
    return sound(segmenter.detect(pairs), Detections)


def stock(folder: Path, image: NDArray[np.uint8], phrase: str, threshold: float) -> Detections:
    """The documented use: one whole forward for one image and one phrase."""
    model, processor = Sam3Model.from_pretrained(folder).eval(), Sam3Processor.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(image), text=phrase, return_tensors="pt")
    with torch.inference_mode():
        out = model(**{key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask")})
    presence = out.presence_logits.sigmoid()[0, 0]
    scores = out.pred_logits.sigmoid()[0] * presence
    kept = torch.nonzero(scores > threshold).flatten()
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    return Detections(
        out.pred_boxes[0][kept].numpy(), scores[kept].numpy(), float(presence), out.pred_masks[0][kept].numpy()
    )


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.999], ids=["all queries", "some", "none"])
def test_detect_gives_the_stock_forwards_objects(
    segmenter: Sam3Segmenter, small_checkpoint: Path, threshold: float
) -> None:
    images = pictures(3)
    answers = iter(found(segmenter, images, PHRASES, threshold))
    for image in images:
        for phrase in PHRASES:
            ours, theirs = next(answers), stock(small_checkpoint, image, phrase, threshold)
            assert ours.scores.shape == theirs.scores.shape
            assert ours.presence == pytest.approx(theirs.presence, abs=1e-6)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-5)
            np.testing.assert_allclose(ours.mask_logits, theirs.mask_logits, atol=1e-4)


def test_a_pair_has_a_threshold_of_its_own(segmenter: Sam3Segmenter) -> None:
    (image,) = segmenter.encode([segmenter.prepare(pictures(1)[0])])
    (phrase,) = segmenter.embed(["dog"])
    assert isinstance(image, ImageFeatures)
    assert isinstance(phrase, PhraseFeatures)
    everything, nothing = segmenter.detect([Pair(image, phrase, 0.0), Pair(image, phrase, 1.0)])
    assert isinstance(everything, Detections)
    assert isinstance(nothing, Detections)
    assert (len(everything.scores), len(nothing.scores)) == (7, 0)
    assert nothing.mask_logits.shape == (0, *everything.mask_logits.shape[1:])


def stock_pixels(folder: Path, image: NDArray[np.uint8]) -> torch.Tensor:
    processor = Sam3Processor.from_pretrained(folder)
    pixels: torch.Tensor = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    return pixels


@pytest.mark.parametrize(
    "size_hw", [(48, 64), (112, 27), (300, 28), (56, 56), (5, 300), (1, 1)], ids=lambda size: f"{size[1]}x{size[0]}"
)
def test_prepare_gives_the_stock_processors_pixels(
    segmenter: Sam3Segmenter, small_checkpoint: Path, size_hw: tuple[int, int]
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    assert torch.equal(segmenter.prepare(image), stock_pixels(small_checkpoint, image))


@pytest.mark.parametrize(
    "size_hw", [(113, 27), (300, 5), (1000, 1), (4000, 3)], ids=lambda size: f"{size[1]}x{size[0]}"
)
def test_prepare_shortens_a_tall_picture_first_and_stays_close(
    segmenter: Sam3Segmenter, small_checkpoint: Path, size_hw: tuple[int, int]
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    level = 1 / 127.5
    stock = stock_pixels(small_checkpoint, image)
    assert torch.allclose(segmenter.prepare(image), stock, rtol=0, atol=2 * level + 1e-6)


def test_no_resize_holds_more_than_twice_the_picture_or_the_result(small_checkpoint: Path) -> None:
    model, processor = Sam3Model.from_pretrained(small_checkpoint), Sam3Processor.from_pretrained(small_checkpoint)
    steps: list[tuple[tuple[int, ...], tuple[int, int]]] = []

    class Noted(type(processor.image_processor)):  # type: ignore[misc]
        def resize(self, image, size, **options):  # type: ignore[no-untyped-def]
            steps.append((tuple(image.shape[-2:]), (size.height, size.width)))
            return super().resize(image, size, **options)

    processor.image_processor = Noted(**processor.image_processor.to_dict())
    segmenter = Sam3Segmenter(model.eval(), processor)
    for height, width in [(65_535, 1), (10_000, 30), (1, 65_535), (700, 300), (113, 28)]:
        steps.clear()
        segmenter.prepare(np.zeros((height, width, 3), np.uint8))
        largest = 2 * max(height * width, 56 * 56)
        # Across first: between the two passes lies a picture of the old height and the new width.
        assert all(old[0] * new[1] <= largest for old, new in steps)
        assert steps[-1][1] == (56, 56)


def test_no_phrase_triggers_another_vision_pass(small_checkpoint: Path) -> None:
    segmenter = load(small_checkpoint)
    passes: list[int] = []
    segmenter._vision.backbone.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    found(segmenter, pictures(3), PHRASES, 0.0)
    assert passes == [3]


def test_empty_batches_are_empty_answers(segmenter: Sam3Segmenter) -> None:
    assert (segmenter.encode([]), segmenter.embed([]), segmenter.detect([])) == ([], [], [])


def test_embed_refuses_a_phrase_over_the_positions_and_answers_the_others(segmenter: Sam3Segmenter) -> None:
    good, bad = segmenter.embed(["dog", "z" * 200])
    assert isinstance(good, PhraseFeatures)
    assert isinstance(bad, InvalidRequest)
    assert "32 tokens" in bad.message


def test_phrases_are_checked_without_a_text_pass_as_embed_reads_them(segmenter: Sam3Segmenter) -> None:
    phrases = ["dog", "z" * 200, "a red sofa", "狗" * 20, "word " * 29, "word " * 40]
    passes: list[object] = []
    hook = segmenter._model.text_encoder.register_forward_pre_hook(lambda *_: passes.append(None))
    checked = segmenter.check_phrases(phrases)
    hook.remove()
    assert passes == []
    embedded = segmenter.embed(phrases)
    refused = [each.message if isinstance(each, InvalidRequest) else None for each in embedded]
    assert [None if each is None else each.message for each in checked] == refused
    assert refused[0] is None
    assert refused[1] == "longer than the 32 tokens that the segmenter reads"


def test_phrases_are_checked_by_many_threads_while_others_are_embedded(segmenter: Sam3Segmenter) -> None:
    """A tokenizer that two threads use at once fails."""
    with ThreadPoolExecutor(4) as threads:
        checks = [threads.submit(segmenter.check_phrases, ["dog", "z" * 200] * 20) for _ in range(40)]
        for _ in range(5):
            segmenter.embed(["dog", "cat"])
    assert all(sum(each is None for each in check.result()) == 20 for check in checks)


def test_nonsense_of_the_model_stays_with_its_pair(segmenter: Sam3Segmenter) -> None:
    (image,) = segmenter.encode([segmenter.prepare(pictures(1)[0])])
    good, other = segmenter.embed(["dog", "cat"])
    assert isinstance(image, ImageFeatures)
    assert isinstance(good, PhraseFeatures)
    assert isinstance(other, PhraseFeatures)
    broken = PhraseFeatures("cat", torch.full_like(other.states, float("nan")), other.mask)
    first, second = segmenter.detect([Pair(image, good, 0.0), Pair(image, broken, 0.0)])
    assert isinstance(first, Detections)
    assert isinstance(second, InternalError)


def test_half_precision_vision_stays_close(segmenter: Sam3Segmenter, small_checkpoint: Path) -> None:
    mixed = load(small_checkpoint, dtype="bfloat16")
    for ours, full in zip(
        found(mixed, pictures(2), PHRASES, 0.0), found(segmenter, pictures(2), PHRASES, 0.0), strict=True
    ):
        assert ours.scores.dtype == np.float32
        np.testing.assert_allclose(ours.scores, full.scores, atol=2e-2)


def test_the_compiled_model_has_no_graph_break_and_the_same_answers(
    segmenter: Sam3Segmenter, small_checkpoint: Path
) -> None:
    model, processor = Sam3Model.from_pretrained(small_checkpoint), Sam3Processor.from_pretrained(small_checkpoint)
    # The backend that only traces: breaks and recompilations are the same, without minutes of code generation.
    compiled = Sam3Segmenter(model.eval(), processor, compile_backend="eager")
    compiled.warm_up(max_pixels=2 * 56 * 56, max_pairs=4)
    torch._dynamo.utils.counters.clear()
    with torch.compiler.set_stance("fail_on_recompile"):
        answers = found(compiled, pictures(2), PHRASES[:2], 0.2)
    assert not torch._dynamo.utils.counters["graph_break"]
    for ours, plain in zip(answers, found(segmenter, pictures(2), PHRASES[:2], 0.2), strict=True):
        np.testing.assert_allclose(ours.scores, plain.scores, atol=1e-6)
        np.testing.assert_allclose(ours.mask_logits, plain.mask_logits, atol=1e-4)


class OutOfMemoryOver(Sam3Segmenter):
    """A device that holds no more than two images or pairs."""

    limit = 2

    def _encode(self, images):  # type: ignore[no-untyped-def]
        if len(images) > self.limit:
            raise torch.OutOfMemoryError
        return super()._encode(images)

    def _detect(self, pairs):  # type: ignore[no-untyped-def]
        if len(pairs) > self.limit:
            raise torch.OutOfMemoryError
        return super()._detect(pairs)


def test_a_full_device_halves_the_batch(segmenter: Sam3Segmenter, small_checkpoint: Path) -> None:
    model, processor = Sam3Model.from_pretrained(small_checkpoint), Sam3Processor.from_pretrained(small_checkpoint)
    tight = OutOfMemoryOver(model.eval(), processor)
    answers = found(tight, pictures(3), PHRASES, 0.2)
    for ours, full in zip(answers, found(segmenter, pictures(3), PHRASES, 0.2), strict=True):
        np.testing.assert_allclose(ours.scores, full.scores, atol=1e-6)
    tight.limit = 0
    assert all(isinstance(outcome, DeviceOutOfMemory) for outcome in tight.encode([tight.prepare(pictures(1)[0])] * 2))
