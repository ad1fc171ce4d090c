"""Make sure that one document comes from one model: segment images from an older model version again.

During a rolling change, replicas of two versions answer side by side. Each answer carries its replica's ModelStamp, and
the version whose replica started last wins. The nodes' clocks decide which replica that is: if the clocks differ by
more than the duration of the change, the older version may win until its replicas are gone. Even then a document comes
from one model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from serve_app.errors import Overloaded
from serve_app.schemas.dicts import ImageDict
from serve_app.serving.messages import ImageTask, ModelStamp, OtherModel, SegmentedImage

Value = TypeVar("Value")

MAX_ROUNDS = 6
FIRST_PAUSE_S = 0.05
"""Pause before the second round; each further pause is twice as long. All pauses together take 1.55 s."""


@dataclass(frozen=True)
class ImagePart:
    """One image's part of the result.

    Attributes:
        document: the image's document.
        task: the segmenter's task.
        answer: the segmenter's answer; None if it failed on this image.
    """

    document: ImageDict
    task: ImageTask
    answer: SegmentedImage | None


Again = Callable[[int, ImageTask], Coroutine[Any, Any, ImagePart | OtherModel]]
"""Segments the image with this index again, with the task's version; OtherModel if the replica has another version."""


async def from_one_model(parts: Sequence[ImagePart], again: Again) -> list[ImagePart]:
    """Segment images again until all come from one version of the model.

    Args:
        parts: the parts of all images, in order. Images on which the segmenter failed are not segmented again.
        again: segments one image with a given version.

    Returns:
        The parts, in order; all their answers come from one version.

    Raises:
        Overloaded: after MAX_ROUNDS the images still come from several versions.
        GensegError: any error that `again` raises.
    """
    parts = [*parts]
    refusals: list[ModelStamp] = []
    for round_number in range(MAX_ROUNDS + 1):
        stamps = [part.answer.stamp for part in parts if part.answer is not None]
        newest = max([*stamps, *refusals], key=lambda stamp: stamp.since, default=None)
        if newest is None:
            return parts
        stale = [index for index, part in enumerate(parts) if _version(part) not in (None, newest.version)]
        if not stale:
            return parts
        if round_number == MAX_ROUNDS:
            break
        if round_number:
            await asyncio.sleep(FIRST_PAUSE_S * 2 ** (round_number - 1))
        same = frozenset(stamp.replica for stamp in (*stamps, *refusals) if stamp.version == newest.version)
        answers = await _all(
            again(index, replace(parts[index].task, version=newest.version, replicas=same)) for index in stale
        )
        refusals = [answer.stamp for answer in answers if isinstance(answer, OtherModel)]
        for index, answer in zip(stale, answers, strict=True):
            if isinstance(answer, ImagePart):
                parts[index] = answer
    raise Overloaded("the segmentation model is being changed; try again")


async def _all(calls: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """Wait for all calls; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in running]


def _version(part: ImagePart) -> str | None:
    return None if part.answer is None else part.answer.stamp.version
