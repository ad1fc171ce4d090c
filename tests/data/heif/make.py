"""Writes the HEIC files beside it. Their encoder is no dependency of the project:

    pip install pillow-heif==1.8.1 && PYTHONPATH=. python tests/data/heif/make.py

Seen upright, each picture has four quarters: red, green / blue, yellow.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from tests.images.heif_files import Frames, grid_file

HERE = Path(__file__).parent
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
TILE = 64


def quarters(alpha: int | None = None) -> Any:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48], pixels[:32, 48:], pixels[32:, :48], pixels[32:, 48:] = RED, GREEN, BLUE, YELLOW
    if alpha is None:
        return pixels
    cover = np.full((64, 96, 1), 255, np.uint8)
    cover[32:, 48:] = alpha
    return np.concatenate([pixels, cover], axis=2)


def save(name: str, pixels: Any, mode: str = "RGB", second: Any = None) -> bytes:
    height, width = pixels.shape[:2]
    file = pillow_heif.from_bytes(mode=mode, size=(width, height), data=pixels.tobytes())
    if second is not None:
        height, width = second.shape[:2]
        file.add_frombytes(mode="RGB", size=(width, height), data=second.tobytes())
    file.save(HERE / name, quality=90, chroma=444, primary_index=0)
    return (HERE / name).read_bytes()


def phone() -> bytes:
    """A picture as phones write it: tiles in a grid, a box that turns it by 90 degrees, and EXIF that says so again.

    The grid is 120 x 80; turned clockwise it is 80 x 120.
    """
    tiles = [save("tile.heic", np.full((TILE, TILE, 3), colour, np.uint8)) for colour in (GREEN, YELLOW, RED, BLUE)]
    (HERE / "tile.heic").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    return grid_file(Frames(tiles), [1, 2, 3, 4], 2, (120, 80), exif=struct.pack(">I", 6) + exif.tobytes(), turn=3)


if __name__ == "__main__":
    save("plain.heic", quarters())
    save("alpha.heic", quarters(alpha=0), "RGBA")
    save("ten_bit.heic", quarters().astype(np.uint16) * 257, "RGB;16")
    save("two_images.heic", quarters(), second=np.zeros((32, 32, 3), np.uint8))
    save("large.heic", np.full((2048, 2048, 3), RED, np.uint8))
    (HERE / "phone.heic").write_bytes(phone())
