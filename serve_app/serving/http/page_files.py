"""The page for people: its files, with their types and ETags. Knows Starlette; knows no service and no Ray.

`page/` beside this module holds the pages; the examples' pictures are those of `serve_app.embedded`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

import serve_app.embedded

POLICY = "default-src 'self'; img-src 'self' data: blob:"
"""The page's Content-Security-Policy: nothing from elsewhere, no inline script, no inline style."""
FOLDER = "/page/"
"""Where the page's files are, below the page itself."""
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".jpg": "image/jpeg",
}
_EXAMPLES = ("contextual_0.jpg", "contextual_1.jpg", "generated.jpg")


@dataclass(frozen=True)
class PageFile:
    """One file of the page.

    Args:
        content: its bytes.
        media_type: its Content-Type.
        etag: a strong ETag, of its content.
    """

    content: bytes
    media_type: str
    etag: str

    def answer(self, headers: Headers) -> Response:
        """Answer a GET or a HEAD: the file, or 304 where the client has it.

        Args:
            headers: of the request.
        """
        always = {**SECURITY_HEADERS, "ETag": self.etag, "Cache-Control": "no-cache"}
        if _is_known(self.etag, headers.getlist("if-none-match")):
            return Response(status_code=304, headers=always)
        return Response(self.content, headers=always, media_type=self.media_type)


def page_files(page: str = "index.html") -> Mapping[str, PageFile]:
    """Read the page's files.

    Args:
        page: the one at "/": `index.html`, the service's, or `view.html`, that of `genseg view`.

    Returns:
        By path below the service's own: "/" is the page, the others begin with FOLDER.
    """
    own = Path(__file__).parent / "page"
    pictures = Path(serve_app.embedded.__file__).parent / "images"
    files = {FOLDER + path.name: _read(path) for path in sorted(own.iterdir()) if path.suffix in _TYPES}
    files.update({f"{FOLDER}examples/{name}": _read(pictures / name) for name in _EXAMPLES})
    pages = {path: files.pop(path) for path in [*files] if path.endswith(".html")}
    return {"/": pages[FOLDER + page], **files}


def to_the_page(request: Request) -> Response:
    """Lead from the service's own path without a slash, where relative addresses would miss it, to the page.

    The address is relative: the host and the path that the client sees may differ from ours.
    """
    return RedirectResponse(f"{request.scope['path'].rpartition('/')[2]}/")


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _is_known(etag: str, if_none_match: list[str]) -> bool:
    """Compare weakly, as RFC 9110 asks for: a proxy that compresses makes the ETag weak."""
    known = [each.strip().removeprefix("W/") for line in if_none_match for each in line.split(",")]
    return etag in known or "*" in known
