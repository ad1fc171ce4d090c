"""Bodies at the default limits whose reading, parsing or checking costs the most."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from tests.hostile.request_case import PNG_BASE64
from tests.hostile.worst_case import WorstCase

BODY = 64 * 1024 * 1024
SEPARATORS = 100_000
FORM = "multipart/form-data; boundary=b"


def worst_bodies() -> Iterator[WorstCase]:
    """Make every case of this file."""
    yield from _json_cases()
    yield from _form_cases()


def _json_cases() -> Iterator[WorstCase]:
    def case(name: str, body: Callable[[], bytes], *statuses: int) -> WorstCase:
        return WorstCase(f"json: {name}", body, frozenset(statuses))

    yield case("9 million zeros as images", lambda: b'{"contextual_images":[' + b"0," * 9_000_000 + b"0]}", 413)
    yield case("64 MiB of zeros as images", lambda: _filled(b'{"contextual_images":[', b"0,", b"0]}"), 413)
    yield case("64 MiB of zeros as entities", lambda: _filled(b'{"entities":[', b"0,", b"0]}"), 413)
    yield case("a million unknown keys", lambda: _keys('{"k%d":0', ',"k%d":0', 1_000_000, "}"), 413)
    yield case("a million thresholds", lambda: _keys('{"thresholds":{"%d":5', ',"%d":5', 1_000_000, "}}"), 413)
    yield case("as many zeros as are counted", lambda: b'{"contextual_images":[' + b"0," * 99_000 + b"0]}", 413)
    yield case("as many keys as are counted", lambda: _keys('{"k%d":0', ',"k%d":0', 49_000, "}"), 400)
    yield case("as many keys of an image", lambda: _keys('{"generated_image":{"k%d":0', ',"k%d":0', 49_000, "}}"), 400)
    yield case("64 MiB of brackets", lambda: b"[" * BODY, 400)
    yield case("64 MiB of objects", lambda: _filled(b"[", b"{},", b"{}]"), 413)
    yield case("64 MiB of letters after one emoji", lambda: _filled('{"prompt":"💚'.encode(), b"A", b'"}'), 400, 413)
    yield case("64 MiB of escapes", lambda: _filled(b'{"prompt":"', b"\\n", b'"}'), 400, 413)
    yield case("64 MiB of digits", lambda: _filled(b'{"threshold":0.', b"1", b"}"), 400)
    yield case("64 MiB of blanks", lambda: _filled(b'{"prompt":', b" ", b'"a"}'), 400)
    yield case("64 MiB in a key", lambda: _filled(b'{"', b"k", b'":0}'), 400)
    yield case("60 MiB of base64", lambda: _images("A" * (30 << 20), "A" * (30 << 20)), 422)
    yield case("30 MiB of blanks in base64", lambda: _images(PNG_BASE64 + " " * (30 << 20)), 200, 422)
    yield case("60 MiB of %-escapes", lambda: _images("data:image/png," + "%41" * (20 << 20)), 422)


def _form_cases() -> Iterator[WorstCase]:
    def case(name: str, body: Callable[[], bytes], *statuses: int, content_type: str = FORM) -> WorstCase:
        return WorstCase(f"form: {name}", body, frozenset(statuses), content_type)

    yield case("60 MiB of false delimiters", lambda: _file(b"\r\n--bx" * (10 << 20)), 413)
    yield case("60 MiB of line ends and hyphens", lambda: _file(b"\r\n--" * (15 << 20)), 413)
    yield case("60 MiB of carriage returns", lambda: _file(b"\r" * (60 << 20)), 413)
    yield case("30 MiB as one file", lambda: _file(bytes(30 << 20)), 422)
    yield case("30 MiB in a text field", lambda: _text("entities", b"0," * (15 << 20)), 413)
    yield case("a text field at its bound", lambda: _text("entities", b"[" + b"0," * 49_000 + b"0]"), 413)
    yield case("a text field of brackets", lambda: _text("entities", b"[" * 400_000), 400)
    yield case("60 MiB before the first part", lambda: b"-" * (60 << 20) + b"\r\n" + _file(b"x"), 400)
    punycode = f"{FORM}; charset=punycode"
    yield case("punycode", lambda: _text("prompt", b"a-" + b"b" * 400_000), 400, content_type=punycode)
    yield case("60 kB of Content-Type", lambda: _file(b"x"), 400, content_type=f'{FORM}; x="' + ";" * 60_000)
    head = b'--b\r\nContent-Disposition: form-data; name="e"; x="' + b";" * 3900 + b"\r\n\r\n1\r\n"
    yield case("64 parts with long heads", lambda: head * 64 + b"--b--\r\n", 400)


def _filled(start: bytes, unit: bytes, end: bytes) -> bytes:
    return start + unit * ((BODY - len(start) - len(end)) // len(unit)) + end


def _keys(first: str, following: str, count: int, end: str) -> bytes:
    return (first % 0 + "".join(following % index for index in range(1, count)) + end).encode()


def _images(*data: str) -> bytes:
    return json.dumps({"entities": ["dog"], "contextual_images": [{"data": each} for each in data]}).encode()


def _file(data: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="entities"\r\n\r\n["dog"]\r\n'
    head += b'--b\r\nContent-Disposition: form-data; name="generated"; filename="a.png"\r\n\r\n'
    return head + data + b"\r\n--b--\r\n"


def _text(name: str, data: bytes) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data + b"\r\n--b--\r\n"
