"""Load and send the files of the page for people, with media types and ETags.

`page/` beside this module has the pages; the example images come from `serve_app.embedded`.
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
"""The page's Content-Security-Policy: no files from other servers, no inline scripts, no inline styles."""
FOLDER = "/page/"
"""The path of the page's files, below the page itself."""
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
    """A file of the page.

    Attributes:
        content: the file's bytes.
        media_type: the file's Content-Type.
        etag: a strong ETag, from a hash of the content.
    """

    content: bytes
    media_type: str
    etag: str

    def answer(self, headers: Headers) -> Response:
        """Answer a GET or a HEAD with the file, or with 304 if the client already has it.

        Args:
            headers: the request's headers.
        """
        always = {**SECURITY_HEADERS, "ETag": self.etag, "Cache-Control": "no-cache"}
        if _is_known(self.etag, headers.getlist("if-none-match")):
            return Response(status_code=304, headers=always)
        return Response(self.content, headers=always, media_type=self.media_type)


def page_files(page: str = "index.html") -> Mapping[str, PageFile]:
    """Read the page's files.

    Args:
        page: the file for "/": `index.html` for the service, `view.html` for `genseg view`.

    Returns:
        The files by their path below the service's URL: "/" is the page, the others begin with FOLDER.
    """
    own = Path(__file__).parent / "page"
    pictures = Path(serve_app.embedded.__file__).parent / "images"
    files = {FOLDER + path.name: _read(path) for path in sorted(own.iterdir()) if path.suffix in _TYPES}
    files.update({f"{FOLDER}examples/{name}": _read(pictures / name) for name in _EXAMPLES})
    pages = {path: files.pop(path) for path in [*files] if path.endswith(".html")}
    return {"/": pages[FOLDER + page], **files}


def to_the_page(request: Request) -> Response:
    """Redirect from the service's path without a slash at the end to the page, so that its relative URLs work.

    The redirect is relative, because behind a proxy the client may see another host and path.
    """
    return RedirectResponse(f"{request.scope['path'].rpartition('/')[2]}/")


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _is_known(etag: str, if_none_match: list[str]) -> bool:
    """Compare weakly, as RFC 9110 requires, because a proxy that compresses makes the ETag weak."""
    known = [each.strip().removeprefix("W/") for line in if_none_match for each in line.split(",")]
    return etag in known or "*" in known
