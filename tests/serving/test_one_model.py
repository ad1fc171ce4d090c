"""A rolling change of the model: replicas of two versions answer side by side, and no document mixes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve_app.config.schema import AppConfig
from serve_app.errors import InternalError, Overloaded
from serve_app.serving.messages import ImageTask, ModelStamp, OtherModel, SegmentedImage
from serve_app.serving.one_model import MAX_ROUNDS
from tests.serving.fakes import Again, FakeSegmenter, job, pipeline, run


class Rolling(FakeSegmenter):
    """Replicas of two versions: the first answer about an image of 10 pixels comes from the old one.

    The next `refusals` tries of that image reach another old replica; with `stuck`, all of them do.
    """

    OLD, NEW = ModelStamp("old", "1", 100.0, "a"), ModelStamp("new", "2", 200.0, "b")

    def __init__(self, refusals: int = 0, *, stuck: bool = False) -> None:
        super().__init__()
        self._refusals, self._stuck = refusals, stuck

    async def segment(self, task: ImageTask, again: Again) -> SegmentedImage | OtherModel:
        answer = await super().segment(task, again)
        assert isinstance(answer, SegmentedImage)
        is_old = answer.document["width"] == 10 and (task.version is None or self._stuck or self._refusals > 0)
        if task.version is not None and is_old:
            self._refusals -= 1
            return OtherModel(self.OLD)
        stamp = self.OLD if is_old else self.NEW
        presence = dict.fromkeys(answer.document["presence"], 0.1 if is_old else 0.9)
        return SegmentedImage({**answer.document, "presence": presence}, stamp)


@pytest.mark.parametrize("refusals", [0, 2], ids=["at once", "after other old replicas"])
@pytest.mark.parametrize("entities", [None, ["dog", "sofa"]], ids=["parsed", "own"])
async def test_one_document_comes_from_one_model(refusals: int, entities: list[str] | None) -> None:
    segmenter = Rolling(refusals)
    events = [
        event async for event in pipeline(segmenter=segmenter).stream(job(10, 11, entities=entities), AppConfig(), "r")
    ]
    images = [(event["role"], event["index"]) for event in events if event["event"] == "image"]
    assert sorted(images) == [("contextual", 0), ("contextual", 0), ("generated", 0)]
    assert images[-1] == ("contextual", 0), "the later event takes the place of the first"
    assert events[-1]["event"] == "result"
    document = events[-1]["result"]
    assert document["meta"]["models"]["segmentation"] == "new"
    first, generated = document["contextual_images"][0], document["generated_image"]
    assert generated is not None
    assert first["presence"] == generated["presence"] == {"dog": 0.9, "sofa": 0.9}
    again = segmenter.tasks[2]
    assert (again.version, again.replicas, again.parsed.entities) == ("2", frozenset({"b"}), ("dog", "sofa"))


async def test_a_document_that_would_mix_two_models_is_an_error() -> None:
    segmenter = Rolling(stuck=True)
    with pytest.raises(Overloaded, match="being changed"):
        await run(job(10, 11), pipeline(segmenter=segmenter))
    assert len(segmenter.tasks) == 2 + MAX_ROUNDS


async def test_a_newer_version_seen_in_a_refusal_counts() -> None:
    """Two images come from different old versions that are gone: a third version does all the work again."""

    class Third(FakeSegmenter):
        newest = ModelStamp("third", "3", 300.0, "c")

        async def segment(self, task: ImageTask, again: Again) -> SegmentedImage | OtherModel:
            answer = await super().segment(task, again)
            assert isinstance(answer, SegmentedImage)
            if task.version is None:
                stamp = Rolling.OLD if answer.document["width"] == 10 else Rolling.NEW
                return replace(answer, stamp=stamp)
            return OtherModel(self.newest) if task.version != "3" else replace(answer, stamp=self.newest)

    document = await run(job(10, 11), pipeline(segmenter=Third()))
    assert document["meta"]["models"]["segmentation"] == "third"


async def test_replicas_of_one_version_may_work_for_one_document() -> None:
    class Two(FakeSegmenter):
        def stamp(self) -> ModelStamp:
            return ModelStamp("same", "1", float(len(self.tasks)), f"replica {len(self.tasks)}")

    segmenter = Two()
    await run(job(10, 11, 12), pipeline(segmenter=segmenter))
    assert len(segmenter.tasks) == 3


async def test_an_image_that_fails_when_it_is_segmented_again_does_not_lose_the_others() -> None:
    class Fails(Rolling):
        async def segment(self, task: ImageTask, again: Again) -> SegmentedImage | OtherModel:
            if task.version is not None:
                raise InternalError("died")
            return await super().segment(task, again)

    document = await run(job(10, 11), pipeline(segmenter=Fails()))
    assert document["contextual_images"][0]["error"]["code"] == "internal"
    assert document["contextual_images"][0]["objects"] is None
    assert document["meta"]["models"]["segmentation"] == "new"
