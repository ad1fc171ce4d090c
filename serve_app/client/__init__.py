"""Sync and async clients of the HTTP service.

    with Client("http://127.0.0.1:8000") as client:
        result = client.segment("A dog on a red sofa", ["context.jpg"], "generated.jpg")
        for image in result.images:
            for found in image.objects:
                print(image.path, found.label, found.score, found.mask().sum())

    __init__.py    the public names
    sync.py        Client: sends requests and receives answers
    aio.py         AsyncClient: the same for asyncio
    address.py     BaseClient: what both clients share, which is the service's address, the token and timeouts
    exchange.py    when a request is sent again, and which error ends it
    requests.py    prompts, images and options -> bodies
    answers.py     bodies -> documents and events
    objects.py     objects of documents -> masks as arrays
    results.py     documents -> results with masks
    interop.py     results -> pandas and supervision, where they are installed
    saved.py       files and lines of JSON -> documents
    failures.py    error answers -> the error tree

From `serve_app` it imports only `schemas`, `errors` and, to decode a mask, `masks`.
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
