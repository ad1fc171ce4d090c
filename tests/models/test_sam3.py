"""The staged, batched head gives the stock forward's results, with one vision pass per image and errors by item."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Sam3Model, Sam3Processor

from serve_app.config.models import SegmentationModel
from serve_app.config.schema import DeviceConfig
from serve_app.errors import DeviceOutOfMemory, InternalError, InvalidRequest
from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, PhraseFeatures
from tests.models.small_segmenter import make

PHRASES = ["dog", "red sofa", "a very long phrase of many words", "x"]


Kind = TypeVar("Kind")


def load(folder: Path, **fields: object) -> Sam3Segmenter:
    return Sam3Segmenter.load(SegmentationModel(model_name=str(folder), device="cpu", **fields), DeviceConfig())


@pytest.fixture(scope="module")
def segmenter(small_checkpoint: Path) -> Sam3Segmenter:
    return load(small_checkpoint)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    sizes = [(48, 64), (90, 40), (56, 56), (31, 77)]
    return [rng.integers(0, 256, (*sizes[index % 4], 3), dtype=np.uint8) for index in range(count)]


def sound(outcomes: Sequence[object], kind: type[Kind]) -> list[Kind]:
    """The outcomes, if all are of this kind; fails the test otherwise."""
    kept = [outcome for outcome in outcomes if isinstance(outcome, kind)]
    assert len(kept) == len(outcomes), outcomes
    return kept


def found(
    segmenter: Sam3Segmenter, images: Sequence[NDArray[np.uint8]], phrases: Sequence[str], threshold: float
) -> list[Detections]:
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


def normalised(segmenter: Sam3Segmenter, image: NDArray[np.uint8]) -> torch.Tensor:
    """What the vision encoder sees of a picture."""
    return segmenter._input.batch([segmenter.prepare(image)], torch.device("cpu"))[0]


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
    assert segmenter.prepare(image).dtype == torch.uint8
    assert torch.equal(normalised(segmenter, image), stock_pixels(small_checkpoint, image))


@pytest.mark.parametrize(
    "size_hw", [(113, 27), (300, 5), (1000, 1), (4000, 3)], ids=lambda size: f"{size[1]}x{size[0]}"
)
def test_prepare_shortens_a_tall_picture_first_and_stays_close(
    segmenter: Sam3Segmenter, small_checkpoint: Path, size_hw: tuple[int, int]
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    level = 1 / 127.5
    stock = stock_pixels(small_checkpoint, image)
    assert torch.allclose(normalised(segmenter, image), stock, rtol=0, atol=2 * level + 1e-6)


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
    segmenter._vision.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
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


def compiled_graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.parametrize(
    ("images", "pairs"), [(3, 3), (1, 256)], ids=["no powers of two", "more shapes than PyTorch's own limit"]
)
def test_after_the_warm_up_no_batch_within_the_budgets_is_compiled(
    small_checkpoint: Path, images: int, pairs: int
) -> None:
    model, processor = Sam3Model.from_pretrained(small_checkpoint), Sam3Processor.from_pretrained(small_checkpoint)
    compiled = Sam3Segmenter(model.eval(), processor, compile_backend="eager")
    compiled.warm_up(max_pixels=images * 56 * 56, max_pairs=pairs)
    before = compiled_graphs()
    assert before > 0

    def work() -> None:
        features = sound(compiled.encode([compiled.prepare(image) for image in pictures(images)]), ImageFeatures)
        (phrase,) = sound(compiled.embed(["dog"]), PhraseFeatures)
        for size in sorted({1, 2, 3, pairs - 1, pairs}):
            shown = [features[index % len(features)] for index in range(size)]
            found = compiled.detect([Pair(image, phrase, 0.0) for image in shown])
            assert len(sound(found, Detections)) == size

    # In another thread than the warm-up's, as the service does it.
    with torch.compiler.set_stance("fail_on_recompile"), ThreadPoolExecutor(1) as thread:
        thread.submit(work).result()
    assert compiled_graphs() == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_vision_keeps_exact_what_it_adds_to_and_where_things_are(tmp_path: Path, dtype: str) -> None:
    """The real grid is three windows wide: 24 of 72. A third has no exact half-precision number."""
    folder = make(tmp_path, side=84)
    half, full = (load(folder, dtype=each)._model.vision_encoder for each in (dtype, "float32"))
    buffers = dict(full.named_buffers())
    thirds = buffers["backbone.layers.1.position_ids"]
    assert not torch.equal(thirds.to(getattr(torch, dtype)).float(), thirds)
    assert {name.rpartition(".")[2] for name in buffers} == {"position_ids", "inv_freq", "original_inv_freq"}
    for name, buffer in half.named_buffers():
        assert buffer.dtype == torch.float32
        assert torch.equal(buffer, buffers[name]), name
    weights = dict(half.named_parameters())
    for name, value in full.named_parameters():
        rounded = any(part in name for part in ("attention", "mlp", "neck.fpn_layers.0", "neck.fpn_layers.1"))
        assert weights[name].dtype == (getattr(torch, dtype) if rounded else torch.float32), name
        assert rounded or torch.equal(weights[name], value), name


def test_pairs_that_want_no_masks_draw_none(segmenter: Sam3Segmenter) -> None:
    (image,) = sound(segmenter.encode([segmenter.prepare(pictures(1)[0])]), ImageFeatures)
    dog, cat = sound(segmenter.embed(["dog", "cat"]), PhraseFeatures)
    drawn: list[int] = []
    decoder = segmenter._model.mask_decoder.prompt_cross_attn_norm
    hook = decoder.register_forward_pre_hook(lambda _, inputs: drawn.append(len(inputs[0])))
    with_masks = sound(segmenter.detect([Pair(image, dog, 0.0), Pair(image, cat, 0.0)]), Detections)
    mixed = sound(segmenter.detect([Pair(image, dog, 0.0, masks=False), Pair(image, cat, 0.0)]), Detections)
    sound(segmenter.detect([Pair(image, dog, 0.0, masks=False), Pair(image, cat, 0.0, masks=False)]), Detections)
    hook.remove()
    assert drawn == [2, 1]
    for ours, full in zip(mixed, with_masks, strict=True):
        np.testing.assert_array_equal(ours.scores, full.scores)
        np.testing.assert_array_equal(ours.boxes, full.boxes)
    assert [len(each.mask_logits) for each in mixed] == [0, 7]
    np.testing.assert_allclose(mixed[1].mask_logits, with_masks[1].mask_logits, atol=1e-5)


class Waits(TorchDispatchMode):
    """Counts the operations whose result or shape the host must know at once: on a GPU it would wait for each."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_detect_waits_for_no_value_but_the_results(segmenter: Sam3Segmenter) -> None:
    images = sound(segmenter.encode([segmenter.prepare(image) for image in pictures(2)]), ImageFeatures)
    phrases = sound(segmenter.embed(PHRASES), PhraseFeatures)
    with Waits() as waits:
        answers = segmenter.detect([Pair(image, phrase, 0.2) for image in images for phrase in phrases])
    assert sum(len(each.scores) for each in sound(answers, Detections)) > 0
    assert waits.seen == []
    with waits:
        torch.ones(3).nonzero()
        torch.ones(()).item()
    assert len(waits.seen) == 2


class NoMasks(Sam3Segmenter):
    """Makes the first pair's masks infinite."""

    def _masks(self, *args):  # type: ignore[no-untyped-def]
        masks = super()._masks(*args)
        masks[0] = np.full_like(masks[0], np.inf)
        return masks


def test_masks_that_are_not_finite_are_an_error_of_their_pair(small_checkpoint: Path) -> None:
    model, processor = Sam3Model.from_pretrained(small_checkpoint), Sam3Processor.from_pretrained(small_checkpoint)
    broken = NoMasks(model.eval(), processor)
    (image,) = sound(broken.encode([broken.prepare(pictures(1)[0])]), ImageFeatures)
    (phrase,) = sound(broken.embed(["dog"]), PhraseFeatures)
    first, second = broken.detect([Pair(image, phrase, 0.0)] * 2)
    assert isinstance(first, InternalError)
    assert isinstance(second, Detections)


@pytest.mark.parametrize("allowed", [True, False])
def test_one_setting_rounds_products_and_convolutions_to_tf32_or_neither(small_checkpoint: Path, allowed: bool) -> None:
    try:
        load(small_checkpoint, tf32=allowed)
        assert torch.backends.cuda.matmul.allow_tf32 == allowed
        assert torch.backends.cudnn.allow_tf32 == allowed
    finally:
        load(small_checkpoint)


def test_a_half_precision_head_compiles_without_a_graph_break(small_checkpoint: Path) -> None:
    model, processor = Sam3Model.from_pretrained(small_checkpoint), Sam3Processor.from_pretrained(small_checkpoint)
    halves = {"vision_dtype": torch.bfloat16, "head_dtype": torch.float16}
    compiled = Sam3Segmenter(model.eval(), processor, **halves, compile_backend="eager")
    compiled.warm_up(max_pixels=2 * 56 * 56, max_pairs=4)
    torch._dynamo.utils.counters.clear()
    with torch.compiler.set_stance("fail_on_recompile"):
        answers = found(compiled, pictures(2), PHRASES[:2], 0.2)
    assert not torch._dynamo.utils.counters["graph_break"]
    plain = load(small_checkpoint, dtype="bfloat16", head_dtype="float16")
    for ours, full in zip(answers, found(plain, pictures(2), PHRASES[:2], 0.2), strict=True):
        np.testing.assert_allclose(ours.scores, full.scores, atol=2e-3)


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
