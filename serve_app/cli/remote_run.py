"""Runs the request of `genseg run` on a running service."""

from __future__ import annotations

from typing import cast

from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError
from serve_app.cli.report import follow, named
from serve_app.client import Client
from serve_app.client.address import read_base_url
from serve_app.client.answers import EntitiesEvent, Event, ImageEvent
from serve_app.errors import GensegError
from serve_app.schemas.dicts import DroppedDict, ImageDict, ResultDict, error_body
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest


def read_address(url: str) -> None:
    """Check the address of a service.

    Raises:
        CommandError: it is not a valid http:// or https:// address.
    """
    try:
        read_base_url(url)
    except GensegError as error:
        raise CommandError(f"--url: {error.message.removeprefix('base_url: ')}", usage=True) from None


def segment_by_url(url: str, token: str | None, request: SegmentRequest, progress: Progress) -> ResultDict:
    """Run a request on a running service.

    Args:
        url: the service's address.
        token: the service's bearer token, if the service asks for one.
        request: the request.
        progress: gets a line for each event.

    Raises:
        CommandError: the request failed.
    """
    with Client(url, token=token) as client:
        stream = client.segment_stream(
            request.prompt, request.contextual_images, request.generated_image, **request.given()
        )
        try:
            return follow(map(_event, stream), request, progress)
        except GensegError as error:
            raise CommandError(named(error_body(error), request)) from None


def _event(event: Event) -> EventDict:
    """Return an event of the client as a dict, as the handle of a graph yields it."""
    if isinstance(event, EntitiesEvent):
        dropped: list[DroppedDict] = [{"entity": each.entity, "reason": each.reason} for each in event.dropped]
        return {"event": "entities", "entities": [*event.entities], "dropped": dropped}
    if isinstance(event, ImageEvent):
        image = cast(ImageDict, event.image.document.model_dump(exclude_unset=True))
        return {"event": "image", "role": event.role, "index": event.index, "image": image}
    return {"event": "result", "result": event.result.to_dict()}
