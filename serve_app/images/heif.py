"""HEIC and HEIF through the package pi-heif, which decodes and does not encode: the extra `heif`."""

from __future__ import annotations

import importlib
import io
from typing import Any

from PIL import ImageFile

from serve_app.errors import InvalidImage
from serve_app.images.structure.heif import heif_size, plain_heif

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


def is_heif(data: bytes) -> bool:
    """Tell by the signature: a brand of HEVC, or a general one that names such a brand among those it is like."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), len(data))
    alike = {data[at : at + 4] for at in range(16, end - 3, 4)}
    return data[8:12] in _BRANDS or (data[8:12] in {b"mif1", b"msf1"} and not alike.isdisjoint(_BRANDS))


def check_heif(data: bytes) -> tuple[int, int]:
    """Find the size of the first picture; see `heif_size`.

    Raises:
        InvalidImage: as `heif_size`; or the package is not installed.
    """
    _plugin()
    return heif_size(data)


def open_heif(data: bytes) -> ImageFile.ImageFile:
    """Open the first picture, in a file that holds nothing else.

    The decoder turns it as the file's own boxes say. EXIF says the same a second time and is left out.
    """
    picture: ImageFile.ImageFile = _plugin().HeifImageFile(io.BytesIO(plain_heif(data)))
    return picture


def _plugin() -> Any:
    try:
        return importlib.import_module("pi_heif.as_plugin")
    except ImportError:
        missing = "a HEIF file, and the package that reads them is not installed: pip install 'genseg[heif]'"
        raise InvalidImage(missing) from None
