"""The dearest requests are what they claim to be: within the body's limit, and answered by the header where refused."""

from __future__ import annotations

from serve_app.config.schema import LimitsConfig
from serve_app.errors import GensegError
from serve_app.images.base64 import decode_base64
from serve_app.images.decoding import read_header
from serve_app.schemas.requests import SegmentRequest
from tests.hostile.worst_images import REFUSED, UNREADABLE, worst_image_requests

LIMITS = LimitsConfig()


def status_of(text: str) -> int:
    """The status that the header gives: 200 where the file is taken."""
    try:
        read_header(decode_base64(text, LIMITS.max_image_bytes), LIMITS)
    except GensegError as error:
        return error.status
    return 200


def test_every_request_is_a_right_one_and_its_files_are_refused_by_their_header_or_taken() -> None:
    names = []
    for worst in worst_image_requests():
        names.append(worst.name)
        request = SegmentRequest.model_validate(worst.body)
        assert request.generated_image is not None
        images = [*request.contextual_images, request.generated_image]
        texts = [image.data for image in images if isinstance(image.data, str)]
        assert sum(map(len, texts)) < LIMITS.max_body_bytes, worst.name
        assert len(texts) == len(images) <= LIMITS.max_images
        assert len(request.entities or ()) <= LIMITS.max_entities
        assert len(set(texts)) == len(texts), "none is in the cache"
        expected = worst.statuses if worst.statuses <= {REFUSED, UNREADABLE} else {200}
        assert status_of(texts[0]) in expected, worst.name
    assert len(set(names)) == len(names) >= 30
