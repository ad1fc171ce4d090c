"""Reads the rows of a manifest in JSON: one object on each line, or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import JsonValue

from serve_app.batch.row import ManifestError

Record = tuple[int, dict[str, JsonValue] | str]
"""A row of a manifest: first its line in the file, from 1 (in an array and in Parquet, the row's number, from 1); then
its values, or a message that says what is wrong with the row."""

UTF_8 = frozenset({"utf-8", "utf-8-sig"})


class NamedTwice(ValueError):
    """An object has the same name twice, so it is unclear which value counts."""


def json_records(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the rows of a JSON file.

    Args:
        path: path of the file. A file whose name ends in `.json` may also be one object over several lines.
        name: the file's name in messages.
        encoding: the file's encoding.

    Raises:
        ManifestError: the file is a faulty array, or does not have that encoding.
        OSError: the file cannot be read.
    """
    with path.open(encoding=encoding, errors="replace") as file:
        start = file.read(4096).lstrip()
        while not start and (more := file.read(4096)):
            start = more.lstrip()
    if start.startswith("["):
        yield from _items(path, name, encoding)
    elif path.suffix.lower() == ".json" and (whole := _one_object(path, encoding)) is not None:
        yield 1, whole
    else:
        yield from _lines(path, name, encoding)


def parse(text: str) -> Any:
    """Parse JSON.

    Raises:
        NamedTwice: an object has the same name twice.
        ValueError, RecursionError: it is not JSON.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise NamedTwice(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return values


def _lines(path: Path, name: str, encoding: str) -> Iterator[Record]:
    # Split at line feeds only, because JSON strings may hold other characters that Python takes for line ends.
    file: IO[bytes] | IO[str]
    file = path.open("rb") if encoding in UTF_8 else path.open(encoding=encoding, newline="\n")
    with file:
        lines: Iterator[tuple[int, bytes | str]] = enumerate(file, 1)
        while True:
            try:
                line, raw = next(lines, (0, ""))
            except UnicodeDecodeError:
                raise ManifestError(
                    f"{name}: its first bytes say {encoding.upper()}, but the file is not {encoding.upper()}"
                ) from None
            if not line:
                return
            if raw.strip():
                yield line, _object(raw, "utf-8-sig" if line == 1 else "utf-8")


def _object(raw: bytes | str, encoding: str) -> dict[str, JsonValue] | str:
    try:
        values = parse(raw.decode(encoding) if isinstance(raw, bytes) else raw)
    except UnicodeDecodeError:
        return "not UTF-8"
    except NamedTwice as error:
        return str(error)
    except ValueError:
        return "not a JSON object"
    except RecursionError:
        return "nested too deep"
    return values if isinstance(values, dict) else "not a JSON object"


def _items(path: Path, name: str, encoding: str) -> Iterator[Record]:
    try:
        items = parse(path.read_text(encoding))
    except UnicodeDecodeError:
        raise ManifestError(f"{name}: not {encoding.upper()}") from None
    except NamedTwice as error:
        raise ManifestError(f"{name}: in one of its objects, {error}") from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"{name}:{error.lineno}: not a JSON array: {error.msg} at column {error.colno}") from None
    except ValueError:
        raise ManifestError(f"{name}: not a JSON array that can be read") from None
    except RecursionError:
        raise ManifestError(f"{name}: one of its values is nested too deep") from None
    for number, item in enumerate(items, 1):
        yield number, item if isinstance(item, dict) else "not a JSON object"


def _one_object(path: Path, encoding: str) -> dict[str, JsonValue] | str | None:
    """Read a file that is one object over several lines; None if the file is something else."""
    try:
        values = parse(path.read_text(encoding))
    except NamedTwice as error:
        return str(error)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
