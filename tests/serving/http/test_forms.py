"""Multipart forms: what would cost the parser more than copying the body is refused first."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.datastructures import Headers

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidRequest, TooLarge
from serve_app.serving.http.forms import read_form

LIMITS = LimitsConfig(max_images=3, max_entities=2, max_entity_chars=10, max_prompt_chars=100)


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


END = b"--b--\r\n"


async def read(body: bytes, content_type: str = "multipart/form-data; boundary=b") -> dict[str, Any]:
    return await read_form(Headers({"content-type": content_type}), body, LIMITS)


async def test_read_form_gives_the_fields_of_the_json_body() -> None:
    body = part("prompt", "sofá".encode()) + part("entities", b'["dog"]') + part("contextual", b"\r\n--x", "a.png")
    assert await read(body + END) == {
        "prompt": "sofá",
        "entities": ["dog"],
        "contextual_images": [{"data": b"\r\n--x", "name": "a.png"}],
    }


@pytest.mark.parametrize("false", [b"\r\n--bx", b"\r\n--b\rx", b"\r\n--b-x"], ids=ascii)
async def test_false_delimiters_are_counted_before_they_are_parsed(false: bytes) -> None:
    few = part("generated", false * 20, "g.png") + END
    assert (await read(few))["generated_image"]["data"] == false * 20
    with pytest.raises(TooLarge, match="too many parts"):
        await read(part("generated", false * 200, "g.png") + END)


async def test_text_fields_are_bounded_by_the_texts_that_the_limits_allow() -> None:
    longest = "\\u00e9" * 100
    assert (await read(part("entities", f'["{longest}"]'.encode()) + END))["entities"] == ["é" * 100]
    with pytest.raises(TooLarge, match="a text field of the form is over the limit of"):
        await read(part("entities", b" " * 100_000) + END)


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "utf-7", "zlib", "rot13", "klingon", "\x00"])
async def test_charsets_that_are_no_plain_text_are_refused(charset: str) -> None:
    # 200 kB of punycode alone would take seconds: its time grows with the square of the length.
    body = part("prompt", b"a-" + b"b" * 2000) + END
    with pytest.raises(InvalidRequest, match="charset"):
        await read(body, f"multipart/form-data; charset={charset}; boundary=b")


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "gbk", "shift_jis", "windows-1251", "iso-8859-15", "utf-16"])
async def test_charsets_of_text_are_taken(charset: str) -> None:
    body = part("mask_format", "rle".encode(charset)) + END
    assert (await read(body, f"multipart/form-data; charset={charset}; boundary=b"))["mask_format"] == "rle"


async def test_a_long_content_type_is_refused_before_its_parameters_are_read() -> None:
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match="Content-Type is over 1024 characters"):
        await read(END, 'multipart/form-data; boundary=b; x="' + ";" * 1_000_000)  # a minute, if they were
    assert time.monotonic() - started < 1


async def test_values_of_a_field_are_counted() -> None:
    wide = LimitsConfig(max_entities=1024)
    body = part("entities", b"[" + b"0," * 150_000 + b"0]") + END
    with pytest.raises(TooLarge, match="entities has over 100,000"):
        await read_form(Headers({"content-type": "multipart/form-data; boundary=b"}), body, wide)
