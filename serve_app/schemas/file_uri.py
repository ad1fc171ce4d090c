"""Finds the local path that a path or `file:` URI names. Opens no file."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

from serve_app.errors import InvalidRequest

_FILE_URI = re.compile(r"file:(?:/(?!/)|//)", re.IGNORECASE)
"""`file:/path` is short for `file:///path`. Source: RFC 8089."""


def is_file_uri(source: str) -> bool:
    """Tell whether a source is a `file:` URI. `file:a`, without a slash, is an ordinary path."""
    return _FILE_URI.match(source) is not None


def local_path(source: str) -> str:
    """Return the path on this machine that a source names.

    Args:
        source: a path, which is returned unchanged, or a `file:` URI, which is percent-decoded: `%23` is `#`.

    Raises:
        InvalidRequest: the URI names another machine.

    >>> local_path("file:/a%23.png"), local_path("FILE://localhost/a.png"), local_path("a%23.png")
    ('/a#.png', '/a.png', 'a%23.png')
    """
    if not is_file_uri(source):
        return source
    rest = source[len("file:") :].removeprefix("//")
    host, slash, path = rest.partition("/")
    if host.lower() not in {"", "localhost"}:
        raise InvalidRequest(
            f"{host!r} is in the place of the host; a path on this machine is file:///{host}{slash}{path}"
        )
    return os.fsdecode(unquote_to_bytes(slash + path))
