"""The manifest that ships with the pictures, and what the README runs on it."""

from __future__ import annotations

from pathlib import Path

import serve_app.embedded
from serve_app.batch.manifest import check_rows
from serve_app.batch.sources import SourceReader
from serve_app.config.schema import AppConfig
from serve_app.images.decoding import decode

MANIFEST = Path(serve_app.embedded.__file__).parent / "images" / "manifest.jsonl"


def test_every_row_of_the_sample_has_its_pictures() -> None:
    limits = AppConfig().limits
    reader = SourceReader(MANIFEST.parent, limits.max_image_bytes)
    rows = [placed.row for placed in check_rows(MANIFEST)]
    assert [row.id for row in rows] == ["story", "short", "named"]
    for row in rows:
        request = reader.request(row)
        assert request.generated_image is not None
        for image in [*request.contextual_images, request.generated_image]:
            assert isinstance(image.data, bytes)
            decode(image.data, limits)
        assert row.columns == {"group": "demo"}
    reader.close()
