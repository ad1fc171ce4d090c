"""Images by path or URI, read where the job runs: local files, http(s), and what fsspec has a package for (s3, gs, …).

The manifest is the user's own, so unlike the service's fetcher this reads private addresses and any local path too.
A name is taken as it stands: `#`, `?`, `%` and `::` are characters of a path or a key like any other; in a `file:` URI
`%23` is `#`. Knows no image formats.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx

from serve_app.batch.row import ManifestError, Row
from serve_app.errors import FetchFailed, GensegError, TooLarge
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.schemas.shown_url import shown_url

HTTP_TIMEOUT_S = 30.0
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: `C:` is a drive
_FILE_PATH = re.compile(r"file:(?=/(?!/))", re.IGNORECASE)  # the short form of file:///path. Source: RFC 8089
_OWN_SCHEMES = frozenset({"file", "http", "https"})
_WEB = frozenset({"http", "https"})
_ARCHIVES = frozenset({"zip", "tar", "libarchive"})
"""Stores inside a file: `zip://a.png::/data/b.zip` names both, as fsspec has it. Elsewhere `::` is part of a name."""


_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
_OF_A_SIGNATURE = re.compile(
    r"x-amz-.+|x-goog-.+|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id"
    r"|sig|s[vrpet]|ss|srt|spr|sip|sk[tesv]|skoid|sktid",
    re.IGNORECASE,
)
"""Parameters of a signed address that choose no picture. Source: AWS Signature 4, Google Cloud Storage's V2 and V4,
CloudFront's signed URLs, Azure's shared access signatures."""


class _TryAgain(FetchFailed):
    """The server may answer otherwise in a moment."""


class SourceReader:
    """Reads images; may be shared by threads.

    Args:
        folder: what relative paths start from.
        max_bytes: the largest image file.
        pauses_s: before further tries of a web server that is busy or breaks off.
    """

    def __init__(self, folder: Path, max_bytes: int, pauses_s: Sequence[float] = (0.5, 2.0)) -> None:
        self._folder = folder
        self._pauses_s = pauses_s
        self._max_bytes = max_bytes
        self._http = httpx.Client(follow_redirects=True, timeout=HTTP_TIMEOUT_S, headers={"User-Agent": "genseg"})

    def request(self, row: Row) -> SegmentRequest:
        """Read a row's images and make its request.

        Args:
            row: `path` in the result echoes its paths and URIs; see `shown`.

        Raises:
            FetchFailed: an image cannot be read.
            TooLarge: an image file is over the limit.
        """
        return SegmentRequest.of_checked(
            row.prompt,
            [self._image(source, f"contextual_images[{index}]") for index, source in enumerate(row.contextual)],
            None if row.generated is None else self._image(row.generated, "generated_image"),
            row,
        )

    def read(self, source: str) -> bytes:
        """Read one image file.

        Raises:
            FetchFailed: it cannot be read; says why.
            TooLarge: it is over the limit.
        """
        scheme = scheme_of(source)
        name = shown(source)
        try:
            if scheme in _WEB:
                return self._read_http(source)
            if scheme in {None, "file"}:
                with local_path(source, self._folder).open("rb") as file:
                    return self._read_file(file)
            with _open_stored(source, scheme or "") as file:
                return self._read_file(file)
        except GensegError as error:
            kind = TooLarge if isinstance(error, TooLarge) else FetchFailed
            raise kind(f"{name}: {error.message}") from None
        except OSError as error:
            reason = error.strerror or _first_line(error)
        except httpx.HTTPError as error:
            reason = _first_line(error)
        except httpx.InvalidURL:
            reason = "not a valid http:// or https:// address"
        except Exception as error:  # each store's package has classes of its own
            reason = f"{type(error).__name__}: {_first_line(error)}"
        raise FetchFailed(f"{name}: {without_secrets(reason, source)}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _image(self, source: str, field: str) -> ImageInput:
        try:
            return ImageInput(data=self.read(source), name=shown(source))
        except GensegError as error:
            raise error.at(field) from None

    def _read_file(self, file: Any) -> bytes:
        data: bytes = file.read(self._max_bytes + 1)
        self._check_size(data)
        return data

    def _read_http(self, url: str) -> bytes:
        for pause_s in self._pauses_s:
            try:
                return self._get(url)
            except (httpx.TransportError, _TryAgain):
                time.sleep(pause_s)
        return self._get(url)

    def _get(self, url: str) -> bytes:
        with self._http.stream("GET", url) as response:
            status = response.status_code
            if status != 200:
                raise (_TryAgain if status in _PASSING_STATUSES else FetchFailed)(f"the server answered with {status}")
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                self._check_size(data)
        return bytes(data)

    def _check_size(self, data: bytes | bytearray) -> None:
        if len(data) > self._max_bytes:
            raise TooLarge(f"the file is over the limit of {self._max_bytes} bytes")


def scheme_of(source: str) -> str | None:
    """Tell a URI's scheme, in lower case; None for a path."""
    if _FILE_PATH.match(source):
        return "file"
    match = _SCHEME.match(source)
    return match.group(1).lower() if match else None


def shown(source: str) -> str:
    """Write a path or URI as results and messages show it: a web address without user, query and fragment.

    These may hold what nobody else should see, such as the signature of a signed URL. URIs of stores lose their user.

    >>> shown("https://me:secret@host:8/a.png?X-Amz-Signature=1#x"), shown("s3://bucket/a#1?.png"), shown("a?b.png")
    ('https://host:8/a.png', 's3://bucket/a#1?.png', 'a?b.png')
    """
    scheme = scheme_of(source)
    if scheme in _WEB:
        return shown_url(source)
    if scheme is None or _FILE_PATH.match(source):
        return source
    start, _, rest = source.partition("://")
    host, slash, path = rest.partition("/")
    return f"{start}://{host.rpartition('@')[2]}{slash}{path}"


def without_secrets(text: str, source: str) -> str:
    """Leave out of a message what `shown` leaves out of a source."""
    name = shown(source)
    if name != source:
        text = text.replace(source, name)
        rest = source.partition("://")[2]
        parts = [*re.split(r"[?#]", rest, maxsplit=1)[1:], rest.partition("/")[0].rpartition("@")[0]]
        for part in filter(None, parts):
            text = text.replace(part, "…")
    return text


def local_path(source: str, folder: Path) -> Path:
    """Find the file that a path or a `file:` URI names.

    Args:
        source: a URI may be percent-encoded.
        folder: what relative paths start from.

    Raises:
        FetchFailed: the URI names another machine.
    """
    if scheme_of(source) is None:
        return folder / source
    rest = source[len("file:") :].removeprefix("//")
    host, slash, path = rest.partition("/")
    if host.lower() not in {"", "localhost"}:
        raise FetchFailed(f"{host!r} stands where the host does; a path on this machine is file:///{host}{slash}{path}")
    return Path(os.fsdecode(unquote_to_bytes(slash + path)))


def identity_of(source: str, folder: Path) -> str:
    """Write a path or URI so that different spellings of one file are equal: `./a.png`, `a.png`, `file:///…/a.png`.

    Args:
        source: a web address counts with its query, which may choose among pictures, but without its signature.
        folder: what relative paths start from.
    """
    scheme = scheme_of(source)
    if scheme in {None, "file"}:
        return os.path.realpath(local_path(source, folder))
    start, rest = source.partition("://")[::2]
    if scheme in _WEB:
        path, _, query = rest.partition("#")[0].partition("?")
        rest = "?".join(filter(None, [path, _without_signature(query)]))
    return f"{start.lower()}://{rest}"


def _without_signature(query: str) -> str:
    parts = query.split("&")
    names = [part.partition("=")[0] for part in parts]
    if not any(name.lower() in _SIGNATURES for name in names):
        return query
    return "&".join(part for part, name in zip(parts, names, strict=True) if not _OF_A_SIGNATURE.fullmatch(name))


def check_schemes(schemes: Iterable[str | None]) -> None:
    """Find out before the work whether every scheme can be read here.

    Raises:
        ManifestError: a package is missing, or nobody knows the scheme.
    """
    for scheme in sorted({scheme for scheme in schemes if scheme is not None} - _OWN_SCHEMES):
        try:
            _fsspec().get_filesystem_class(scheme)
        except ImportError as error:
            raise ManifestError(f"{scheme}:// images cannot be read: {_first_line(error)}") from None
        except ValueError:
            raise ManifestError(f"{scheme}:// images cannot be read: nothing here knows that scheme") from None


def _open_stored(source: str, scheme: str) -> Any:
    """Open a file of a store, by exactly the name that the URI gives it.

    Raises:
        FetchFailed: the store's package would read another name.
    """
    if scheme in _ARCHIVES:
        return _fsspec().open(source, "rb")
    kind = _fsspec().get_filesystem_class(scheme)
    path = kind._strip_protocol(source)
    if not path.endswith(source.rstrip("/").rpartition("/")[2]):
        raise FetchFailed(f"the package for {scheme}:// would read {path!r} instead")
    store = kind(**kind._get_kwargs_from_urls(source))
    try:
        return store.open(path, "rb")
    except FileNotFoundError:
        if "::" not in path or path.startswith("/"):
            raise
        return store.open(f"/{path}", "rb")  # fsspec's memory leaves the slash away before such a name only


def _fsspec() -> Any:
    try:
        return importlib.import_module("fsspec")
    except ImportError:
        raise ImportError("the package fsspec is missing: pip install 'genseg[batch]'") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
