"""Sync and async clients of the HTTP service.

    with Client("http://127.0.0.1:8000") as client:
        result = client.segment("A dog on a red sofa", ["context.jpg"], "generated.jpg")
        for image in result.images:
            for found in image.objects:
                print(image.path, found.label, found.score, found.mask().sum())

    __init__.py    the public names
    sync.py        Client: sends and receives
    aio.py         AsyncClient: the same for asyncio
    address.py     what both share: the service's address, the token, timeouts
    exchange.py    one call: when it is sent again, which error ends it
    requests.py    prompts, images and options -> bodies
    answers.py     bodies -> documents and events
    objects.py     objects of documents -> masks as arrays
    results.py     documents -> results with masks
    interop.py     results -> pandas and supervision, where they are installed
    saved.py       files and lines of JSON -> documents
    failures.py    error answers -> the error tree

Imports only `schemas`, `errors` and, to decode a mask, `masks` from the package.
"""

from __future__ import annotations

from serve_app.client.aio import AsyncClient
from serve_app.client.answers import EntitiesEvent, Event, ImageEvent, ResultEvent
from serve_app.client.failures import ConnectionFailed, InvalidAnswer
from serve_app.client.objects import ObjectResult
from serve_app.client.requests import SegmentOptions
from serve_app.client.results import ImageResult, Result
from serve_app.client.sync import Client
from serve_app.schemas.verdict import Verdict

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionFailed",
    "EntitiesEvent",
    "Event",
    "ImageEvent",
    "ImageResult",
    "InvalidAnswer",
    "ObjectResult",
    "Result",
    "ResultEvent",
    "SegmentOptions",
    "Verdict",
]
