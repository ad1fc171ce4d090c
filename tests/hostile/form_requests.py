"""Hostile multipart: frames that are broken, and right frames with the wrong things in them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.request_case import (
    ENTITIES,
    INVALID,
    MEDIA_TYPE,
    NO_IMAGE,
    OK,
    PNG,
    PNG_BASE64,
    TOO_LARGE,
    Outcome,
    RequestCase,
    post,
)

BOUNDARY = "frontier"
FORM = (("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"),)


def text(name: str, value: str | bytes) -> bytes:
    """Write a text field."""
    data = value.encode() if isinstance(value, str) else value
    return part(f'form-data; name="{name}"', data)


def file(name: str, data: bytes = PNG, filename: str | bytes = "a.png", more: str = "") -> bytes:
    """Write a file field; the file name goes out as it is."""
    name_bytes = filename.encode("utf-8", "surrogatepass") if isinstance(filename, str) else filename
    head = f'Content-Disposition: form-data; name="{name}"; filename="'.encode() + name_bytes + b'"'
    return (
        b"--"
        + BOUNDARY.encode()
        + b"\r\n"
        + head
        + b"\r\nContent-Type: image/png\r\n"
        + more.encode()
        + b"\r\n"
        + data
        + b"\r\n"
    )


def part(disposition: str, data: bytes) -> bytes:
    """Write any part."""
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
PROMPT, DOG, GENERATED = text("prompt", "A dog"), text("entities", '["dog"]'), file("generated")
RIGHT = PROMPT + DOG + GENERATED + END


def form_cases() -> Iterator[RequestCase]:
    """Make all cases of this file."""
    yield post("form: right", RIGHT, OK, headers=FORM)
    yield from _frames()
    yield from _fields()
    yield from _files()
    yield post("form: sent to the other route", text("prompt", "A dog") + END, MEDIA_TYPE, path=ENTITIES, headers=FORM)


def _frames() -> Iterator[RequestCase]:
    form = "multipart/form-data"
    for name, kind, expected in (
        ("no boundary", form, {INVALID}),
        ("empty boundary", f"{form}; boundary=", {INVALID}),
        ("boundary of quotes", f'{form}; boundary=""', {INVALID}),
        ("wrong boundary", f"{form}; boundary=other", {INVALID}),
        ("boundary not ASCII", f"{form}; boundary=\xff\xfe", {INVALID}),
        ("boundary of 10,000 characters", f"{form}; boundary={'b' * 10_000}", {INVALID, TOO_LARGE}),
        ("quoted boundary", f'{form}; boundary="{BOUNDARY}"', {OK}),
        ("type in capitals", f"MULTIPART/FORM-DATA; BOUNDARY={BOUNDARY}", {OK, INVALID}),
        ("two boundaries", f"{form}; boundary={BOUNDARY}; boundary=other", {OK, INVALID}),
        ("wrong charset", f"{form}; charset=utf-16; boundary={BOUNDARY}", {OK, INVALID}),
        ("charset that is none", f"{form}; charset=klingon; boundary={BOUNDARY}", {INVALID}),
        ("multipart/mixed", f"multipart/mixed; boundary={BOUNDARY}", {MEDIA_TYPE, INVALID}),
        ("urlencoded", "application/x-www-form-urlencoded", {MEDIA_TYPE}),
    ):
        yield post(f"form: {name}", RIGHT, *expected, headers=(("Content-Type", kind),))
    for name, body, expected in (
        ("empty", b"", {INVALID}),
        ("end alone", END, {INVALID}),
        ("JSON in a form", b'{"prompt": "A dog"}', {INVALID}),
        ("cut in the file", RIGHT[:-200], {INVALID, NO_IMAGE}),
        ("cut before the end", RIGHT[: -len(END)], {INVALID}),
        ("cut in the last of many files", (PROMPT + DOG + GENERATED + file("contextual"))[:-300], {INVALID}),
        ("cut in the end", RIGHT[:-4], {INVALID}),
        ("cut in a part's head", RIGHT[:30], {INVALID}),
        ("line feeds alone", (PROMPT + DOG + END).replace(b"\r\n", b"\n"), {INVALID}),
        ("text before and after", b"preamble\r\n" + RIGHT + b"epilogue", {OK}),
        ("much text after", RIGHT + b"--frontier\r\n" * 100_000, {OK}),
        ("blanks behind the boundary", RIGHT.replace(b"frontier\r\n", b"frontier \t\r\n"), {OK}),
        ("two ends", RIGHT + RIGHT, {OK, INVALID}),
        ("zeros", bytes(10_000), {INVALID}),
        ("part without a head", f"--{BOUNDARY}\r\n\r\nA dog\r\n".encode() + END, {INVALID}),
        ("part without a name", part("form-data", b"A dog") + GENERATED + END, {INVALID}),
        ("part that is no form data", part('attachment; name="prompt"', b"A dog") + GENERATED + END, {OK, INVALID}),
        ("head of 100,000 bytes", part(f'form-data; name="{"n" * 100_000}"', b"x") + RIGHT, {INVALID, TOO_LARGE}),
        ("1,000 headers in a part", _many_headers(), {OK, INVALID, TOO_LARGE}),
        ("2,000 parts", text("prompt", "d") * 2000 + RIGHT, {INVALID, TOO_LARGE}),
    ):
        yield post(f"form: {name}", body, *expected, headers=FORM)


def _many_headers() -> bytes:
    lines = "".join(f"X-{index}: y\r\n" for index in range(1000))
    return PROMPT + DOG + file("generated", more=lines) + END


def _fields() -> Iterator[RequestCase]:
    wrong: dict[str, tuple[str | bytes, ...]] = {
        "entities": ("dog", '"dog"', "[dog]", '["dog"', "[1]", "{}", "", '[""]', "[" * 100_000),
        "threshold": (
            "half",
            "",
            "0,5",
            "NaN",
            "Infinity",
            "-0.1",
            "1.1",
            "1e400",
            "1" * 10_000,
            "[0.5]",
            '"0.5"',
            "true",
        ),
        "mask_threshold": ("half", "2"),
        "thresholds": ("dog=0.5", "[]", '{"dog": 2}', '{"dog": "0.5"}', '{"dog": NaN}'),
        "mask_format": ("bitmap", "", '"rle"', "RLE"),
        "overlays": ("perhaps", "2", "[]"),
        "timeout_s": ("0", "-1", "soon", "1e400"),
        "treshold": ("0.5",),
        "contextual_images": ("[]", f'[{{"data": "{PNG_BASE64}"}}]'),
        "": ("x",),
        "contextual": ("a.png", PNG),
    }
    for field, values in wrong.items():
        # `entities` may be left out of the form that is wrong in it, or it would be given twice.
        rest = PROMPT + (b"" if field == "entities" else DOG) + GENERATED + END
        for index, value in enumerate(values):
            yield post(
                f"form: {field} wrong {index}: {ascii(value)[:20]}", text(field, value) + rest, INVALID, headers=FORM
            )
    odd: tuple[tuple[str, bytes, set[Outcome]], ...] = (
        ("prompt twice", PROMPT + RIGHT, {INVALID, OK}),
        ("threshold twice", text("threshold", "0.1") + text("threshold", "0.9") + RIGHT, {INVALID, OK}),
        ("prompt not UTF-8", text("prompt", b"\xff\xfe\x00") + DOG + GENERATED + END, {INVALID}),
        ("prompt with a NUL character", text("prompt", b"a\x00dog") + DOG + GENERATED + END, {INVALID}),
        ("thresholds not UTF-8", text("thresholds", b'{"\xb9\xb7": 0.5}') + RIGHT, {INVALID}),
        ("overlays as people write it", text("overlays", "True") + RIGHT, {OK, INVALID}),
        ("threshold with blanks", text("threshold", " 0.5 ") + RIGHT, {OK, INVALID}),
        ("charset field", text("_charset_", "utf-7") + RIGHT, {INVALID}),
        ("known charset field", text("_charset_", "gbk") + RIGHT, {OK}),
        ("charset field twice", text("_charset_", "gbk") * 2 + RIGHT, {INVALID}),
        (
            "33 entities",
            PROMPT + text("entities", str([f"dog {i}" for i in range(33)]).replace("'", '"')) + GENERATED + END,
            {TOO_LARGE},
        ),
        ("prompt of 4,001 characters", text("prompt", "d" * 4001) + DOG + GENERATED + END, {TOO_LARGE, INVALID}),
        ("prompt of 2 MiB", text("prompt", "d" * (2 << 20)) + DOG + GENERATED + END, {TOO_LARGE, INVALID}),
        ("no prompt, no entities", GENERATED + END, {INVALID}),
        ("no file", PROMPT + DOG + END, {INVALID}),
    )
    for name, body, expected in odd:
        yield post(f"form: {name}", body, *expected, headers=FORM)


def _files() -> Iterator[RequestCase]:
    yield post("form: prompt as a file", file("prompt", b"A dog") + DOG + GENERATED + END, INVALID, headers=FORM)
    yield post(
        "form: entities as a file", file("entities", b'["dog"]') + PROMPT + GENERATED + END, INVALID, headers=FORM
    )
    yield post("form: unknown file", file("images") + RIGHT, INVALID, headers=FORM)
    yield post("form: generated as text", text("generated", PNG_BASE64) + PROMPT + DOG + END, INVALID, headers=FORM)
    yield post("form: two generated", GENERATED + RIGHT, INVALID, headers=FORM)
    yield post("form: 17 files", PROMPT + DOG + file("contextual") * 17 + END, TOO_LARGE, headers=FORM)
    yield post("form: 300 files", PROMPT + DOG + file("contextual", b"x") * 300 + END, TOO_LARGE, headers=FORM)
    for name, data in (
        ("empty", b""),
        ("text", b"A dog"),
        ("half", PNG[: len(PNG) // 2]),
        ("base64", PNG_BASE64.encode()),
    ):
        yield post(f"form: file is {name}", PROMPT + DOG + file("generated", data) + END, NO_IMAGE, headers=FORM)
        body = file("contextual") + file("contextual", data) + RIGHT
        yield post(f"form: second of three files is {name}", body, NO_IMAGE, headers=FORM)
    encoded = file("generated", PNG_BASE64.encode(), more="Content-Transfer-Encoding: base64\r\n")
    yield post("form: file in base64", PROMPT + DOG + encoded + END, OK, headers=FORM)
    filenames: tuple[str | bytes, ...] = (
        "../../etc/passwd",
        "/etc/shadow",
        "C:\\x\\a.png",
        "a\x00.png",
        "ü💚\u202e.png",
        "\ud800",
        b"\xff\xfe",
        "<b>",
        "n" * 5000,
        '"; name="prompt',
    )
    for index, filename in enumerate(filenames):
        body = PROMPT + DOG + file("generated", filename=filename) + END
        yield post(f"form: file name {index}: {ascii(filename)[:20]}", body, OK, INVALID, TOO_LARGE, headers=FORM)
    body = PROMPT + DOG + file("generated", filename="") + END
    yield post("form: empty file name", body, OK, headers=FORM)
    body = file("contextual", b"", filename="") + RIGHT
    yield post("form: file that was not chosen", body, OK, headers=FORM)
    extended = part("form-data; name=\"generated\"; filename*=UTF-8''a%2e%2e%2fb.png", PNG)
    yield post("form: extended file name", PROMPT + DOG + extended + END, OK, headers=FORM)
    broken = part("form-data; name=\"generated\"; filename*=UTF-8''%ff", PNG)
    yield post("form: extended file name that is no text", PROMPT + DOG + broken + END, INVALID, headers=FORM)
    coded = file("generated", b"not base64 %", more="Content-Transfer-Encoding: base64\r\n")
    yield post("form: file that is not the base64 it says", PROMPT + DOG + coded + END, INVALID, NO_IMAGE, headers=FORM)
