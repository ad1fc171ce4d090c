"""Prepare, compute and draw the verdict of a request."""

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
    """Return the caller's own entities; for a verdict, also read in the prompt how many of each it asks for."""
    entities = request.entities or ()
    if not request.options.verdict:
        return ParsedPrompt(entities)
    asked = await asyncio.to_thread(read_named, request.prompt, entities, request.contextual_images)
    return ParsedPrompt(entities, asked=asked)


def judged_image(request: CheckedRequest, image: RequestImage, limits: LimitsConfig) -> JudgedImage | None:
    """Describe an image of the request for the verdict; None if no verdict is requested.

    Args:
        request: the request.
        image: one of its images.
        limits: limit how many objects are compared.
    """
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
    """Draw the verdict on the overlays of the images that it says something about.

    Args:
        segmenter: draws the overlays again.
        request: a request with a verdict.
        parts: the parts of all images, in order.
        verdict: the verdict to draw.
        timeout_s: seconds left until the request's deadline.

    Returns:
        The parts, in order. If an overlay cannot be drawn again, the one without the verdict stays.
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

    # In one thread for all images: a verdict with thousands of individuals takes a third of a second.
    marks = await asyncio.to_thread(lambda: [marks_of(verdict, image.role, image.index) for image in request.images])
    return await asyncio.gather(*(redrawn(*each) for each in zip(parts, marks, strict=True)))


def verdict_of(request: CheckedRequest, shown: ParsedPrompt, parts: Sequence[ImagePart]) -> VerdictDict:
    """Compute the verdict of a request.

    Args:
        request: a request with a verdict.
        shown: its parsed prompt, without entities that the segmenter cannot read.
        parts: the parts of all images, in order, from one model.
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
