"""Reads image files by path or URI: local files, http(s), and fsspec's stores (s3, gs, …).

It runs in the process of `genseg batch`. The user wrote the manifest, so this module also reads private addresses and
any local path, unlike the service's fetcher. Knows no image formats. `source_names` interprets the names and removes
secrets from them.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from serve_app.batch.row import ManifestError, Row
from serve_app.batch.source_names import ARCHIVES, WEB, fault_of, scheme_of, shown, without_secrets
from serve_app.errors import FetchFailed, GensegError, TooLarge
from serve_app.schemas.file_uri import local_path
from serve_app.schemas.requests import ImageInput, SegmentRequest

HTTP_TIMEOUT_S = 30.0
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
_OWN_SCHEMES = frozenset({"file", "http", "https"})


class _TryAgain(FetchFailed):
    """The server failed in a way that may pass; another try may help."""


class SourceReader:
    """Reads image files. Several threads may share one reader.

    Args:
        folder: the folder from which relative paths start.
        max_bytes: largest size of an image file.
        pauses_s: seconds to wait before each further try, if a web server is busy or the connection breaks.
    """

    def __init__(self, folder: Path, max_bytes: int, pauses_s: Sequence[float] = (0.5, 2.0)) -> None:
        self._folder = folder
        self._pauses_s = pauses_s
        self._max_bytes = max_bytes
        self._http = httpx.Client(follow_redirects=True, timeout=HTTP_TIMEOUT_S, headers={"User-Agent": "genseg"})

    def request(self, row: Row) -> SegmentRequest:
        """Read a row's images and build its request.

        Args:
            row: a checked row. The result shows its paths and URIs as `path`, without secrets; see `shown`.

        Raises:
            FetchFailed: an image cannot be read.
            TooLarge: an image file is over the limit.
        """
        return SegmentRequest.from_checked(
            row.prompt,
            [self._image(source, f"contextual_images[{index}]") for index, source in enumerate(row.contextual)],
            None if row.generated is None else self._image(row.generated, "generated_image"),
            row,
        )

    def read(self, source: str) -> bytes:
        """Read one image file.

        Raises:
            FetchFailed: it cannot be read; the message says why.
            TooLarge: it is larger than the limit.
        """
        scheme = scheme_of(source)
        name = shown(source)
        try:
            if (fault := fault_of(source)) is not None:
                raise FetchFailed(fault)
            if scheme in WEB:
                return self._read_http(source)
            if scheme in {None, "file"}:
                with (self._folder / local_path(source)).open("rb") as file:
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
        except Exception as error:  # each store's package has its own classes of errors
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


def check_schemes(schemes: Iterable[str | None]) -> None:
    """Check that images of each scheme can be read on this machine, before the work starts.

    Raises:
        ManifestError: a package is missing, or the scheme is unknown.
    """
    for scheme in sorted({scheme for scheme in schemes if scheme is not None} - _OWN_SCHEMES):
        try:
            _fsspec().get_filesystem_class(scheme)
        except ImportError as error:
            raise ManifestError(f"{scheme}:// images cannot be read: {_first_line(error)}") from None
        except ValueError:
            raise ManifestError(f"{scheme}:// images cannot be read: the scheme is unknown") from None


def _open_stored(source: str, scheme: str) -> Any:
    """Open a file of a store.

    Raises:
        FetchFailed: the store's package would read a file of another name than the URI's.
    """
    if scheme in ARCHIVES:
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
        return store.open(f"/{path}", "rb")  # fsspec's memory store drops the slash only before a name with `::`


def _fsspec() -> Any:
    try:
        return importlib.import_module("fsspec")
    except ImportError:
        raise ImportError("the package fsspec is missing: pip install 'genseg[batch]'") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
