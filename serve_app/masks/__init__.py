"""Masks: COCO RLE, and every form that it comes from or goes to. Pure; knows no model and no wire."""

from __future__ import annotations

from serve_app.masks.formats import decode_png, png_base64
from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.polygons import polygons_from_rle, rle_from_polygons
from serve_app.masks.rle import area, bounds, decode_rle, encode_rle

__all__ = [
    "area",
    "bounds",
    "decode_png",
    "decode_rle",
    "encode_rle",
    "png_base64",
    "polygons_from_rle",
    "rle_from_polygons",
    "rles_from_logits",
]
