"""The verdict of a request: what a segmenter is told to gather for it, and the judgement from what they all found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serve_app.config.schema import LimitsConfig
from serve_app.entities.mentions import read_named
from serve_app.schemas.dicts import VerdictDict
from serve_app.serving.checked_request import CheckedRequest, RequestImage
from serve_app.serving.messages import JudgedImage, ParsedPrompt
from serve_app.serving.one_model import ImagePart
from serve_app.verdict.evidence import Picture
from serve_app.verdict.judge import IdentitySettings, judge


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
