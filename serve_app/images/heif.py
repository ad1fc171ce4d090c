"""Opens HEIC and HEIF files with the optional package pi-heif (the extra `heif`)."""

from __future__ import annotations

import importlib
import io
from typing import Any

from PIL import ImageFile

from serve_app.errors import InvalidImage
from serve_app.images.structure.heif import heif_size, plain_heif

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


def is_heif(data: bytes) -> bool:
    """Tell by the signature whether a file is a HEIF of HEVC frames.

    Its major brand is one of HEVC, or a general one (mif1, msf1) with a brand of HEVC among the compatible brands.

    Source: ISO/IEC 14496-12:2020, 4.3 (ftyp); ISO/IEC 23008-12:2017, 10 and annex B (brands).
    """
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), len(data))
    compatible = {data[at : at + 4] for at in range(16, end - 3, 4)}
    return data[8:12] in _BRANDS or (data[8:12] in {b"mif1", b"msf1"} and not compatible.isdisjoint(_BRANDS))


def check_heif(data: bytes) -> tuple[int, int]:
    """Return the size of the first picture (see `heif_size`).

    Raises:
        InvalidImage: `heif_size` refuses the file, or pi-heif is not installed.
    """
    _plugin()
    return heif_size(data)


def open_heif(data: bytes) -> ImageFile.ImageFile:
    """Open the first picture; everything else is removed from the file before.

    The decoder rotates and mirrors the picture as the file's boxes say. EXIF repeats this information and is ignored.
    """
    picture: ImageFile.ImageFile = _plugin().HeifImageFile(io.BytesIO(plain_heif(data)))
    return picture


def _plugin() -> Any:
    try:
        return importlib.import_module("pi_heif.as_plugin")
    except ImportError:
        missing = "a HEIF file: the server needs the package pi-heif to read it (pip install 'genseg[heif]')"
        raise InvalidImage(missing) from None
