"""Finds the format of a manifest by its first bytes and its ending, and reads its rows."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from serve_app.batch.csv_rows import csv_records, is_table
from serve_app.batch.json_rows import Record, json_records
from serve_app.batch.parquet_rows import parquet_records
from serve_app.batch.row import ManifestError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, because its first two bytes are the same
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENDINGS = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"), "workbook"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), "compressed"),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), "arrow"),
}
_SIGNATURES = (
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "workbook"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "workbook"),
    (b"\x1f\x8b", "compressed"),
    (b"BZh", "compressed"),
    (b"\xfd7zXZ\0", "compressed"),
    (b"\x28\xb5\x2f\xfd", "compressed"),
    (b"ARROW1", "arrow"),
)
_REFUSALS = {
    "workbook": "a workbook of a spreadsheet is not read; save the sheet as “CSV UTF-8” and give that file",
    "compressed": "a compressed file is not read; unpack it first",
    "arrow": "an Arrow file is not read; write it as Parquet or JSONL",
}
_HEAD_BYTES = 4096


def records(path: Path, name: str) -> Iterator[Record]:
    """Yield the rows of a manifest, unchecked; see `Record`.

    Args:
        path: path of a file in JSONL, CSV or Parquet, or with a JSON array of objects.
        name: its name in messages.

    Raises:
        ManifestError: the file as a whole cannot be used.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        encoding = next((encoding for bom, encoding in _BOMS if head.startswith(bom)), "utf-8")
        kind = _kind(path, head, encoding)
        if kind in _REFUSALS:
            raise ManifestError(f"{name}: {_REFUSALS[kind]}")
        if kind == "parquet":
            yield from parquet_records(path, name)
        elif kind == "csv":
            yield from csv_records(path, name, "utf-8-sig" if encoding == "utf-8" else encoding)
        else:
            yield from json_records(path, name, encoding)
    except OSError as error:
        raise ManifestError(f"{name}: {error.strerror or error}") from None


def _kind(path: Path, head: bytes, encoding: str) -> str:
    signed = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
    if signed is not None:
        return signed
    named = _ENDINGS.get(path.suffix.lower())
    if named is not None:
        return named
    start = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    return "csv" if not start.startswith(("{", "[")) and is_table(path, encoding) else "json"
