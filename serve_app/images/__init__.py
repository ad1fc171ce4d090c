"""Decodes image files to RGB, and draws pictures of results. The only files that it opens are the system's fonts."""

from __future__ import annotations

from serve_app.images.base64 import decode_base64
from serve_app.images.decoding import ImageHeader, content_key, decode, read_header

__all__ = ["ImageHeader", "content_key", "decode", "decode_base64", "read_header"]
