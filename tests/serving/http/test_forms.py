"""Multipart forms: a form that would be expensive to parse is refused before it is parsed."""

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


async def test_line_ends_of_a_prompt_are_those_of_json() -> None:
    """Browsers write every line end of a form as CRLF. Source: HTML, "Constructing the entry list"."""
    assert (await read(part("prompt", b"a\r\nb\nc\r") + END))["prompt"] == "a\nb\nc\r"


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


def raw_part(head: bytes, data: bytes) -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (b"filename*=utf-8''%C3%BC.png", "ü.png"),
        (b"filename*=UTF-8'de'%e4%b8%ad%e6%96%87.png", "中文.png"),
        (b"filename*=iso-8859-1''%FC.png", "ü.png"),
        (b"filename*=gbk''%B9%B7.png", "狗.png"),
        (b"filename*0*=utf-8''%C3%BC; filename*1=-2.png", "ü-2.png"),
        (b"filename=\"a.png\"; filename*=utf-8''b.png", "b.png"),
        (b"filename*=utf-8''b.png; filename=\"a.png\"", "b.png"),
        (b"filename=\"=?utf-8?B?c3BlY2lhbOKCrC5wbmc=?=\"; filename*=utf-8''special%E2%82%AC.png", "special€.png"),
        (b"filename=\"%E4%B8%AD.png\"; filename*=utf-8''%E4%B8%AD.png", "中.png"),
        (b"filename=\"a.png\"; filename*=utf-8''%FF.png", "a.png"),
        (b"filename=\"a.png\"; filename*=klingon''b.png", "a.png"),
        (b'filename="=?utf-8?B?w7wucG5n?="', "ü.png"),
        (b'filename="=?iso-8859-1?Q?=FC.png?="', "ü.png"),
        (b'filename="=?klingon?Q?a?="', "=?klingon?Q?a?="),
        (b'filename="100%25 dog.png"', "100%25 dog.png"),
        ('filename="ü.png"'.encode(), "ü.png"),
        (b'filename="a;b.png"', "a;b.png"),
    ],
)
@pytest.mark.parametrize("field", ["contextual", "generated"])
async def test_a_file_s_name_is_read_as_its_sender_meant_it(field: str, names: bytes, path: str) -> None:
    form = await read(raw_part(b"Content-Disposition: form-data; name=" + field.encode() + b"; " + names, b"x") + END)
    (image,) = form["contextual_images"] or [form["generated_image"]]
    assert image == {"data": b"x", "name": path}


@pytest.mark.parametrize("names", [b"filename*=utf-8''%FF.png", b"filename*=klingon''a.png", b'filename="\xfc.png"'])
async def test_a_file_s_name_that_is_no_text_is_refused_at_its_field(names: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^generated: the file's name") as refusal:
        await read(raw_part(b"Content-Disposition: form-data; name=generated; " + names, b"x") + END)
    assert refusal.value.field == "generated"


@pytest.mark.parametrize(
    ("head", "data", "text"),
    [
        (b"\r\nContent-Type: text/plain; charset=gbk", b"\xb9\xb7", "狗"),
        (b"\r\nContent-Type: text/plain; charset=gb2312", "镕".encode("gbk"), "镕"),
        (b"\r\nContent-Type: text/plain; charset=shift_jis", "犬".encode("shift_jis"), "犬"),
        (b"\r\nContent-Type: text/plain; charset=Windows-1251", "собака".encode("cp1251"), "собака"),
        (b"\r\nContent-Type: text/plain; charset=utf-16", "狗".encode("utf-16"), "狗"),
        (b'\r\ncontent-type: text/plain;charset="utf-16le"', "dog".encode("utf-16-le"), "dog"),
        (b"", b"\xef\xbb\xbfa dog", "a dog"),
        (b"\r\nContent-Transfer-Encoding: base64", b"YSBk\r\nb2c=", "a dog"),
        (b"\r\nContent-Transfer-Encoding: quoted-printable", b"a d=C3=B6g", "a dög"),
        (b"\r\nContent-Transfer-Encoding: 8bit", "a dög".encode(), "a dög"),
    ],
    ids=ascii,
)
async def test_text_is_decoded_as_its_part_declares(head: bytes, data: bytes, text: str) -> None:
    body = raw_part(b'Content-Disposition: form-data; name="prompt"' + head, data) + END
    assert (await read(body))["prompt"] == text


@pytest.mark.parametrize("field", ["prompt", "entities", "thresholds", "mask_format"])
@pytest.mark.parametrize(
    ("head", "data", "words"),
    [
        (b"", b'["\xb9\xb7"]', "is not UTF-8"),
        (b"\r\nContent-Type: text/plain; charset=utf-8", b"\xb9\xb7", "is not UTF-8"),
        (b"\r\nContent-Type: text/plain; charset=us-ascii", "ü".encode(), "is not ascii"),
        (b"\r\nContent-Type: text/plain; charset=gbk", b"a\xff", "is not gb18030"),
        (b"\r\nContent-Type: text/plain; charset=klingon", b"a", "the charset 'klingon' is not supported"),
        (b"\r\nContent-Type: text/plain; charset=punycode", b"a", "the charset 'punycode' is not supported"),
    ],
    ids=ascii,
)
async def test_bytes_that_are_not_of_their_charset_are_refused_at_the_field(
    field: str, head: bytes, data: bytes, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refusal:
        await read(raw_part(b"Content-Disposition: form-data; name=" + field.encode() + head, data) + END)
    assert refusal.value.field == field


async def test_the_field_charset_names_the_charset_of_the_form() -> None:
    text = part("prompt", b"\xb9\xb7") + raw_part(
        b"Content-Disposition: form-data; name=thresholds\r\nContent-Type: text/plain; charset=utf-8",
        '{"狗": 0.3}'.encode(),
    )
    form = await read(text + part("_charset_", b"gbk") + END)
    assert form == {"prompt": "狗", "thresholds": {"狗": 0.3}, "contextual_images": []}
    with pytest.raises(InvalidRequest, match="_charset_: the charset 'klingon' is not supported"):
        await read(text + part("_charset_", b"klingon") + END)


@pytest.mark.parametrize("name", ["my_charset_test.png", "_charset_"])
async def test_a_file_named_like_the_field_of_the_charset_is_a_file(name: str) -> None:
    form = await read(part("prompt", "sofá".encode()) + part("generated", b"latin-1", name) + END)
    assert form["prompt"] == "sofá"
    assert form["generated_image"] == {"data": b"latin-1", "name": name}


async def test_an_empty_extended_name_does_not_hide_the_plain_one() -> None:
    head = '--b\r\nContent-Disposition: form-data; name="generated"; filename*=UTF-8\'\'; filename="ok.png"\r\n\r\n'
    form = await read(head.encode() + b"x\r\n" + END)
    assert form["generated_image"]["name"] == "ok.png"


@pytest.mark.parametrize(
    "preamble",
    [
        b"",
        b"\r\n\r\n",
        b"This is a multi-part message in MIME format.\r\n",
        b"a -- b\r\n--\r\n",
        b"--bb\r\n",
        b"\xff\n",
    ],
)
@pytest.mark.parametrize("epilogue", [b"", b"\r\n", b"  \r\n", b"\r\nbye", b"\r\n" + b"e" * 10_000, b"\r\n--b" * 999])
async def test_what_stands_around_the_parts_is_skipped(preamble: bytes, epilogue: bytes) -> None:
    body = preamble + part("prompt", b"a dog") + b"--b--" + epilogue
    assert await read(body) == {"prompt": "a dog", "contextual_images": []}


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t  "])
async def test_blanks_behind_a_delimiter_are_skipped(blanks: bytes) -> None:
    body = part("prompt", b"a dog") + part("generated", b"x", "g.png") + END
    padded = body.replace(b"--b\r\n", b"--b" + blanks + b"\r\n").replace(END, b"--b--" + blanks + b"\r\n")
    assert await read(padded) == await read(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (part("prompt", b"a dog"), "its closing boundary is missing"),
        (part("prompt", b"a dog") + b"--b-", "its closing boundary is missing"),
        (b"", "no line begins with the boundary"),
        ((part("prompt", b"a dog") + END).replace(b"\r\n", b"\n"), "must end in CR LF"),
        (b"--c\r\n\r\n", "no line begins with the boundary"),
        (b"--b\r\nno head\r\n\r\nx\r\n--b--", "a boundary or a part's header is wrong"),
        (raw_part(b"Content-Disposition: form-data", b"x") + END, "a part of the form has no name"),
        (part("", b"x") + END, "a field of the form has an empty name"),
        (
            raw_part(b'Content-Disposition: form-data; name="prompt"\r\nContent-Transfer-Encoding: uu', b"x") + END,
            "'uu'",
        ),
    ],
)
async def test_a_broken_form_is_refused_with_its_reason(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        await read(body)


async def test_a_form_without_parts_has_no_fields() -> None:
    assert await read(END) == {"contextual_images": []}


@pytest.mark.parametrize("field", ["contextual", "generated"])
async def test_an_input_of_a_browser_whose_file_was_not_chosen_is_skipped(field: str) -> None:
    head = f'Content-Disposition: form-data; name="{field}"; filename=""\r\nContent-Type: application/octet-stream'
    assert await read(raw_part(head.encode(), b"") + END) == {"contextual_images": []}
    named = await read(raw_part(head.encode(), b"x") + END)
    (image,) = named["contextual_images"] or [named["generated_image"]]
    assert image == {"data": b"x", "name": None}


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "IMAGE/PNG"])
async def test_a_part_of_a_media_type_is_a_file_without_a_name(kind: str) -> None:
    head = f'Content-Disposition: form-data; name="generated"\r\nContent-Type: {kind}'
    form = await read(raw_part(head.encode(), b"\xff\xd8") + END)
    assert form["generated_image"] == {"data": b"\xff\xd8", "name": None}


@pytest.mark.parametrize("head", [b"", b"\r\nContent-Type: text/plain"])
async def test_text_in_the_place_of_a_file_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^generated: must be a file \(curl: -F generated=@image.jpg\)$"):
        await read(raw_part(b'Content-Disposition: form-data; name="generated"' + head, b"a.jpg") + END)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", "abc", "threshold: 'abc' is not a number"),
        ("timeout_s", "5s", "timeout_s: '5s' is not a number"),
        ("overlays", "on", "overlays: 'on' is not true or false"),
        ("entities", "dog", "entities: 'dog' is not JSON"),
        ("treshold", "1", "treshold: unknown field; did you mean 'threshold'?"),
        ("contextual_images", "x", "contextual_images: unknown field; did you mean 'contextual'?"),
    ],
)
async def test_a_wrong_field_is_named_in_words_that_help(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read(part(name, value.encode()) + END)
    assert caught.value.message == message
