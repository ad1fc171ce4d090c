"""Writes requests as HTTP bodies, and reads their images on the caller's machine.

Knows files and Pillow images, but no sockets. Options are checked by the same schema as on the server, so a wrong
option gives the same error before anything is sent.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from os import PathLike
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from serve_app import errors
from serve_app.client.exchange import MAX_TIMEOUT_S, Call, HttpBody
from serve_app.schemas.base import invalid_request
from serve_app.schemas.requests import EntitiesRequest, ImageInput, OptionArguments, RequestOptions, SegmentRequest

if TYPE_CHECKING:
    from PIL.Image import Image

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


class SegmentOptions(OptionArguments, total=False):
    """The options of `Client.segment`. If one is left out, the server's default applies (`timeout_s`: the client's)."""

    request_id: str | None


def segment_call(
    url: str,
    prompt: str,
    contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image],
    generated: ImageInput | bytes | str | PathLike[str] | Image | None,
    options: SegmentOptions,
    *,
    timeout_s: float,
    stream: bool = False,
) -> Call:
    """Prepare the call of a request to segment. Reads the image files.

    Args:
        url: the address of `/v1/segment`.
        prompt: the image-generation prompt.
        contextual: the contextual images, in order.
        generated: the generated image.
        options: fields of the request, and `request_id`.
        timeout_s: the timeout if `options` has none, in seconds.
        stream: whether to ask for a stream of events.

    Raises:
        InvalidRequest: an option is unknown, of a wrong type or out of range, or an image has a wrong type.
        OSError: a file cannot be read.
    """
    if isinstance(contextual, bytes | str | PathLike | ImageInput):
        raise errors.InvalidRequest("contextual_images: must be a list of images, not one image", "contextual_images")
    _refuse_unknown(options)
    fields = cast(OptionArguments, {name: value for name, value in options.items() if name != "request_id"})
    if fields.get("timeout_s") is None:
        fields["timeout_s"] = timeout_s
    headers = request_id_header(options.get("request_id"))
    if stream:
        headers["accept"] = "application/x-ndjson"
    try:
        request = SegmentRequest(
            prompt=prompt,
            contextual_images=[read_image(image, f"contextual_images[{i}]") for i, image in enumerate(contextual)],
            generated_image=None if generated is None else read_image(generated, "generated_image"),
            **fields,
        )
    except ValidationError as error:
        raise invalid_request(error, (*RequestOptions.model_fields, "request_id")) from None
    assert request.timeout_s is not None
    if request.timeout_s > MAX_TIMEOUT_S:
        raise errors.InvalidRequest(f"timeout_s: {request.timeout_s:g} is over {MAX_TIMEOUT_S:g} s, a day", "timeout_s")
    body = multipart_body(request) or json_body(request)
    return Call("POST", url, request.timeout_s, headers, body, stream)


def _refuse_unknown(options: Mapping[str, object]) -> None:
    known = [*RequestOptions.model_fields, "request_id"]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(known)}"
            raise errors.InvalidRequest(f"{name}: unknown option; {hint}", name)


def entities_call(url: str, prompt: str, *, timeout_s: float, request_id: str | None = None) -> Call:
    """Prepare the call that finds the entities of a prompt.

    Raises:
        InvalidRequest: the prompt is not text, or the request id cannot be used.
    """
    try:
        request = EntitiesRequest(prompt=prompt)
    except ValidationError as error:
        raise invalid_request(error) from None
    return Call("POST", url, timeout_s, request_id_header(request_id), HttpBody(json=request.model_dump()))


def request_id_header(request_id: str | None) -> dict[str, str]:
    """Return the header X-Request-ID, or no header without an id. The server then makes one.

    Raises:
        InvalidRequest: the id is not 1 to 128 printable ASCII characters without spaces.
    """
    if request_id is None:
        return {}
    if not REQUEST_ID.fullmatch(request_id):
        raise errors.InvalidRequest(
            "request_id: must be 1 to 128 printable ASCII characters without spaces", "request_id"
        )
    return {"x-request-id": request_id}


def read_image(source: ImageInput | bytes | str | PathLike[str] | Image, field: str) -> ImageInput:
    """Read one image on the caller's machine.

    Args:
        source: a path, a `file:` URI, an http(s) URL (the server fetches it), the bytes of an image file, an
            ImageInput, or a Pillow image. A Pillow image is sent as PNG, as its pixels are now; its
            EXIF orientation is ignored.
        field: the request's field, for messages.

    Raises:
        InvalidRequest: the image has another type, or a `file:` URI names another machine.
        OSError: the file cannot be read.
    """
    # A caller with a Pillow image has imported Pillow. For other callers it is not imported.
    pillow = sys.modules.get("PIL.Image")
    try:
        if pillow is not None and isinstance(source, pillow.Image):
            return ImageInput(data=png_of(source), url=None, name=getattr(source, "filename", "") or None)
        if isinstance(source, bytes | str | PathLike | ImageInput):
            return ImageInput.from_file(source)
    except ValidationError as error:
        found = invalid_request(error)
        if found.field is None:
            raise found.at(field) from None
        raise errors.InvalidRequest(f"{field}.{found.message}", f"{field}.{found.field}") from None
    except errors.InvalidRequest as error:
        raise error.at(field) from None
    raise errors.InvalidRequest(f"{field}: must be a path, URL, bytes or image, not {type(source).__name__}", field)


def png_of(image: Image) -> bytes:
    """Encode a Pillow image as PNG, fast rather than small, because it is sent only once."""
    buffer = BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def multipart_body(request: SegmentRequest) -> HttpBody:
    """Write a request as multipart, which sends bytes as they are; base64 would add a third.

    Returns:
        Arguments for HTTPX. Empty if the request cannot be sent as multipart, because it has no image, an image that is
        not bytes, or a name of an image that the header of a part would change.
    """
    parts = [("contextual", image) for image in request.contextual_images]
    if request.generated_image is not None:
        parts.append(("generated", request.generated_image))
    files = []
    for index, (part, image) in enumerate(parts):
        # A part without a file name would be a text field, so it gets the name that the server would give.
        name = image.name or f"image_{index}"
        if not isinstance(image.data, bytes) or '"' in name or "\\" in name or not name.isprintable():
            return {}
        files.append((part, (name, image.data, "application/octet-stream")))
    if not files:
        return {}
    values = request.model_dump(exclude_unset=True, exclude={"contextual_images", "generated_image"})
    return {"data": {key: _form_text(value) for key, value in values.items() if value is not None}, "files": files}


def json_body(request: SegmentRequest) -> HttpBody:
    """Write a request as JSON, with the bytes of images in base64.

    Returns:
        Arguments for HTTPX.
    """
    values = request.model_dump(exclude_unset=True)
    images = [*values["contextual_images"], *filter(None, [values["generated_image"]])]
    for image in images:
        if isinstance(image.get("data"), bytes):
            image["data"] = base64.b64encode(image["data"]).decode("ascii")
    return {"json": values}


def _form_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
