"""Masks as COCO RLE: encodes them from logits, and converts them to and from the formats of the wire."""

from __future__ import annotations

from serve_app.masks.formats import ENCODINGS, MaskEncoding, read_mask
from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.polygons import outline_of, rle_from_polygons
from serve_app.masks.rle import area, bounds, decode_rle, encode_rle

__all__ = [
    "ENCODINGS",
    "MaskEncoding",
    "area",
    "bounds",
    "decode_rle",
    "encode_rle",
    "outline_of",
    "read_mask",
    "rle_from_polygons",
    "rles_from_logits",
]
