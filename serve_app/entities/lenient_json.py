"""JSON as language models write it: quotes, commas and brackets of other scripts, single quotes, trailing commas.

Ambiguous text is an error.
"""

# ruff: noqa: RUF001, RUF002 - the tables contain characters that look like ASCII ones on purpose

from __future__ import annotations

import json
import re

MAX_DEPTH = 8
"""Largest number of levels of nested arrays and objects. A list of entities needs three."""

_OPEN = {**dict.fromkeys("[［【〔〖﹇⟦", "["), **dict.fromkeys("{｛﹛", "{")}
_GOES_ON = {
    **dict.fromkeys("]］】〕〗﹈⟧", "]"),
    **dict.fromkeys("}｝﹜", "}"),
    **dict.fromkeys(",，、､﹐﹑;；", ","),
    **dict.fromkeys(":：﹕", ":"),
}
_MARKS = {**_OPEN, **_GOES_ON}
"""JSON's structural character for each character that models write in its place."""

_FRAMES = dict(zip("「『《〈", "」』》〉", strict=True))
"""Quotation marks that may also frame a list."""

_DOUBLE = '"“”„‟＂〝〞'
_SINGLE = "'‘’‚＇`´"
_CLOSERS = {**dict.fromkeys(_DOUBLE, _DOUBLE), **dict.fromkeys(_SINGLE, _SINGLE), "«": "»", "‹": "›", **_FRAMES}
"""The marks that may close a string, by its opening mark. Models mix the marks of one family."""

_PROPER = {'"': '"', "'": "'", "“": "”", "„": "“”", "＂": "＂", "＇": "＇", "`": "`", "〝": "〞"}
"""The marks that always close a string, by its opening mark. Other marks of the family close it only if a structural
character follows, or the text ends.

A single quote between two letters is an apostrophe: "['dog's bowl']". This does not apply to scripts without upper and
lower case."""

_WORDS = {"None": "null", "True": "true", "False": "false"}

_SPACE = re.compile(r"[\s\ufeff\u200b-\u200d\u2060]*")
_WORD = re.compile(r"null|true|false|None|True|False|-?\d+(?:\.\d+)?")
_CAN_GO_ON = re.compile(f"{_SPACE.pattern}[{re.escape(''.join((*_GOES_ON, *_FRAMES.values())))}]")
_ESCAPE_OR_QUOTE = re.compile(rf"\\.|[{re.escape(''.join(_CLOSERS.values()))}]", re.DOTALL)

OPENINGS = "".join((*_OPEN, *_FRAMES))
QUOTES = "".join(_CLOSERS)


class Unfinished(ValueError):
    """The text ends before the value does."""


def decode(text: str, start: int) -> tuple[object, int]:
    """Decode the array or object that begins at `start`.

    Args:
        text: what a model wrote.
        start: index of a character of OPENINGS.

    Returns:
        The value as `json.loads` would return it, and the index after it.

    Raises:
        Unfinished: the text ends before the value does.
        ValueError: the text is not such a value, or its nesting is deeper than `MAX_DEPTH`.

    >>> decode("［“dog”，'red sofa'，］", 0)[0]
    ['dog', 'red sofa']
    """
    frame = _FRAMES.get(text[start])
    tokens, depth, position = (["["], 1, start + 1) if frame else ([], 0, start)
    while not tokens or depth:
        space = _SPACE.match(text, position)
        position = space.end() if space else position
        if position == len(text):
            raise Unfinished("the text ends before the value")
        token, position = ("]", position + 1) if text[position] == frame else _read_token(text, position)
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
        if depth > MAX_DEPTH:
            raise ValueError("the nesting is too deep")
        if token in {"]", "}"} and tokens[-1] == "," and tokens[-2:-1] not in (["["], ["{"]):
            tokens.pop()  # a trailing comma
        tokens.append(token)
    return json.loads("".join(tokens)), position


def _read_token(text: str, position: int) -> tuple[str, int]:
    """Read one token; return it as JSON, and the index after it."""
    mark = _MARKS.get(text[position])
    if mark is not None:
        return mark, position + 1
    if text[position] in _CLOSERS:
        return _read_string(text, position)
    word = _WORD.match(text, position)
    if word is None:
        raise ValueError(f"no JSON at {position}")
    return _WORDS.get(word.group(), word.group()), word.end()


def _read_string(text: str, position: int) -> tuple[str, int]:
    opening = text[position]
    for found in _ESCAPE_OR_QUOTE.finditer(text, position + 1):
        mark, end = found.group(), found.end()
        if mark[0] == "\\" or mark not in _CLOSERS[opening]:
            continue
        if mark in _SINGLE and _has_case(text[found.start() - 1]) and _has_case(text[end : end + 1]):
            continue
        if mark in _PROPER.get(opening, "") or end == len(text) or _CAN_GO_ON.match(text, end):
            return _json_string(text[position + 1 : found.start()]), end
    raise Unfinished("the text ends inside a string")


def _has_case(character: str) -> bool:
    return character.islower() or character.isupper()


def _json_string(raw: str) -> str:
    """Write the content of a string as JSON; escapes that JSON does not know lose their backslash."""

    def escaped(found: re.Match[str]) -> str:
        text = found.group()
        if text[0] != "\\":
            return json.dumps(text)[1:-1]
        return text if text[1] in '"\\/bfnrtu' else json.dumps(text[1])[1:-1]

    return '"' + re.sub(r"\\.|[^\\]", escaped, raw, flags=re.DOTALL) + '"'
