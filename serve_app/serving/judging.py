"""The verdict of a request: what a segmenter is told to gather for it, and the judgement from what they all found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from serve_app.config.schema import LimitsConfig
from serve_app.entities.mentions import read_named
from serve_app.errors import GensegError
from serve_app.images.marks import Marks, marks_of
from serve_app.schemas.dicts import VerdictDict
from serve_app.serving.checked_request import CheckedRequest, RequestImage
from serve_app.serving.messages import JudgedImage, OverlayTask, ParsedPrompt
from serve_app.serving.one_model import ImagePart
from serve_app.serving.stages import SegmenterStage
from serve_app.verdict.evidence import Picture
from serve_app.verdict.judge import IdentitySettings, judge

logger = logging.getLogger("ray.serve")


async def read_given(request: CheckedRequest) -> ParsedPrompt:
    """Take the caller's own entities; where a verdict is asked for, read in the prompt how many of each are asked."""
    entities = request.entities or ()
    if not request.options.verdict:
        return ParsedPrompt(entities)
    asked = await asyncio.to_thread(read_named, request.prompt, entities, request.contextual_images)
    return ParsedPrompt(entities, asked=asked)


def judged_image(request: CheckedRequest, image: RequestImage, limits: LimitsConfig) -> JudgedImage | None:
    """Say which image of the request one is; None where no verdict is asked for."""
    if not request.options.verdict:
        return None
    return JudgedImage(
        image=image.index if image.role == "contextual" else None,
        contextual_images=request.contextual_images,
        has_generated=request.contextual_images < len(request.images),
        max_objects=limits.max_identity_objects,
    )


async def with_marks(
    segmenter: SegmenterStage,
    request: CheckedRequest,
    parts: Sequence[ImagePart],
    verdict: VerdictDict,
    timeout_s: float,
) -> list[ImagePart]:
    """Draw overlays once more where the verdict says something of the image.

    Args:
        segmenter: draws.
        request: one that asks for a verdict.
        parts: of all images, in order.
        verdict: what is drawn.
        timeout_s: seconds left until the request's deadline.

    Returns:
        The parts, in order. Where an overlay could not be drawn again, the one without the verdict stays.
    """

    async def redrawn(part: ImagePart, marks: Marks) -> ImagePart:
        if part.answer is None or part.answer.drawn is None or marks == Marks():
            return part
        task = OverlayTask(
            key=part.task.key,
            data=part.task.data,
            objects=part.answer.drawn,
            entities=[*part.document["presence"]],
            style=request.options.overlay_style,
            marks=marks,
            request_id=part.task.request_id,
            timeout_s=timeout_s,
        )
        try:
            overlay = await segmenter.overlay(task)
        except GensegError as error:
            logger.warning("request %s: the verdict is not drawn: %s", task.request_id, error.message)
            return part
        return replace(part, document={**part.document, "overlay": overlay})

    # In a thread, and in one: a verdict of thousands of individuals takes a third of a second.
    marks = await asyncio.to_thread(lambda: [marks_of(verdict, image.role, image.index) for image in request.images])
    return await asyncio.gather(*(redrawn(*each) for each in zip(parts, marks, strict=True)))


def verdict_of(request: CheckedRequest, shown: ParsedPrompt, parts: Sequence[ImagePart]) -> VerdictDict:
    """Judge a request.

    Args:
        request: one that asks for a verdict.
        shown: its prompt, without what the segmenter cannot read.
        parts: of all images, in order, from one model.
    """
    evidence = [None if part.answer is None else part.answer.evidence for part in parts]
    pictures = [Picture(None) if each is None else each.picture for each in evidence]
    described = next((each.identity for each in evidence if each is not None and each.identity is not None), None)
    most = next((part.task.judged.max_objects for part in parts if part.task.judged is not None), 0)
    contextual = request.contextual_images
    return judge(
        shown.asked,
        pictures[:contextual],
        pictures[contextual] if contextual < len(pictures) else None,
        None if described is None else IdentitySettings(described, most),
    )
