"""Images by path or URI, read where the job runs: local files, http(s), and what fsspec has a package for (s3, gs, …).

The manifest is the user's own, so unlike the service's fetcher this reads private addresses and any local path too.
Knows no image formats.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from serve_app.batch.manifest import ManifestError, Row
from serve_app.errors import FetchFailed, GensegError, TooLarge
from serve_app.schemas.requests import ImageInput, SegmentRequest

HTTP_TIMEOUT_S = 30.0
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: `C:` is a drive
_OWN_SCHEMES = frozenset({"file", "http", "https"})


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
            row: `path` in the result echoes its paths and URIs as they stand.

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
        try:
            if scheme in {"http", "https"}:
                return self._read_http(source)
            if scheme in {None, "file"}:
                path = self._folder / source if scheme is None else Path(unquote(urlsplit(source).path))
                with path.open("rb") as file:
                    return self._read_file(file)
            with _fsspec().open(source, "rb") as file:
                return self._read_file(file)
        except GensegError as error:
            kind = TooLarge if isinstance(error, TooLarge) else FetchFailed
            raise kind(f"{source}: {error.message}") from None
        except OSError as error:
            raise FetchFailed(f"{source}: {error.strerror or _first_line(error)}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchFailed(f"{source}: {_first_line(error)}") from None
        except Exception as error:  # each store's package has classes of its own
            raise FetchFailed(f"{source}: {type(error).__name__}: {_first_line(error)}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _image(self, source: str, field: str) -> ImageInput:
        try:
            return ImageInput(data=self.read(source), name=source)
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
    match = _SCHEME.match(source)
    return match.group(1).lower() if match else None


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


def _fsspec() -> Any:
    try:
        return importlib.import_module("fsspec")
    except ImportError:
        raise ImportError("the package fsspec is missing: pip install 'genseg[batch]'") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
