"""What counts as an entity: the instruction for the language model, and reading its reply.

Pure text in, lists of strings out. Knows no model, no Ray and no wire format; what is dropped from the list is
the business of `filter`.
"""

from __future__ import annotations

import json
import re

from serve_app.entities.phrases import distinct, spaced_once
from serve_app.errors import InvalidModelReply

INSTRUCTION = (
    "List every distinct physical thing in the image prompt that could be outlined in a picture: "
    "people, animals, objects, plants, buildings, vehicles, places and parts of the scene. "
    'Keep the attributes that tell it apart, such as colour, material, size or kind: "red sofa", not "sofa". '
    "Leave out articles and counts. "
    "Leave out lighting, mood, style, quality, camera and photography words and abstract ideas. "
    "Answer with a JSON array of strings, in the order of the prompt, and nothing else."
)
"""The system message of the parser's chat; the user message is the prompt as the caller gave it.

A checkpoint that was trained with an instruction of its own, as the embedded one was, writes that in its chat template.
"""

ARTICLES = frozenset({"a", "an", "the"})
LIST_KEYS = ("entities", "objects", "items", "things", "result", "answer")
"""Keys under which models wrap the list, likeliest first."""

NAME_KEYS = ("entity", "name", "label", "object")
"""Keys under which models wrap one entity, likeliest first."""

MAX_BRACKETS = 256
"""Opening brackets tried before a reply counts as having no array: bounds the work on a hostile reply."""

_DECODER = json.JSONDecoder()
_OPENING = re.compile(r"[\[{]")
_JSON_START = re.compile(r"""[\[{]\s*["'\[{]""")
_QUOTED = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")
_QUOTED_LIST = re.compile(rf"\[\s*(?:{_QUOTED.pattern})(?:\s*,\s*(?:{_QUOTED.pattern}))*\s*,?\s*\]")


def chat_messages(prompt: str) -> list[dict[str, object]]:
    """Build the parser's chat for one prompt, in the content-parts form that both processors and servers take.

    Args:
        prompt: the image-generation prompt, as the caller gave it.

    Returns:
        A system message with `INSTRUCTION` and a user message with the prompt.
    """
    return [
        {"role": "system", "content": [{"type": "text", "text": INSTRUCTION}]},
        {"role": "user", "content": [{"type": "text", "text": prompt}]},
    ]


def read_entities(reply: str) -> list[str]:
    """Read the parser's reply.

    Args:
        reply: text that holds a JSON array of strings, alone, in a code fence, among other words, after a
            `<think>` block, or as the one list of an object such as `{"entities": [...]}`. Single quotes are read
            where they can mean one thing only. The first array counts.

    Returns:
        The strings in order: outer and repeated white space, a leading article and closing punctuation removed;
        blank ones and repetitions (also by case) left out. Empty for an explicit empty array.

    Raises:
        InvalidModelReply: the reply holds no such array.
    """
    found = _find_array(_without_thoughts(reply))
    if found is None:
        raise InvalidModelReply("the text model's reply holds no JSON array of strings")
    return distinct(_clean(text) for text in found)


def is_complete(reply: str) -> bool:
    """Tell whether a growing reply already holds its whole array, so that nothing that follows can matter.

    Args:
        reply: the beginning of a reply.
    """
    return _find_array(_without_thoughts(reply)) is not None


def _without_thoughts(reply: str) -> str:
    """Cut what a reasoning model thinks before it answers; an unfinished thought is no answer."""
    # Some chat templates open the block inside the prompt, so that the reply holds its end only.
    answer = reply.rpartition("</think>")[2]
    return answer.partition("<think>")[0]


def _find_array(text: str) -> list[str] | None:
    """Find the first array of strings that is not part of something broken or unfinished."""
    position = 0
    for _ in range(MAX_BRACKETS):
        opening = _OPENING.search(text, position)
        if opening is None:
            break
        start = opening.start()
        value, end = _decode(text, start)
        found = _strings_in(value) if end > start else None
        if found is not None:
            return found
        if end == start and _JSON_START.match(text, start):
            break  # an unfinished array or object: one of its inner arrays is not the answer
        position = max(end, start + 1)
    return None


def _decode(text: str, start: int) -> tuple[object, int]:
    """Decode the JSON value, or the quoted list, at `start`; its end is `start` where there is none."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        quoted = _QUOTED_LIST.match(text, start)
        if quoted is None:
            return None, start
        return [single or double for single, double in _QUOTED.findall(quoted.group())], quoted.end()
    return value, end


def _strings_in(value: object) -> list[str] | None:
    """Return the one array of strings that a JSON value means, or None where there is none or more than one."""
    if isinstance(value, list):
        names = [_name_of(item) for item in value]
        return [name for name in names if name is not None] if None not in names else None
    if not isinstance(value, dict):
        return None
    named = [value[key] for key in LIST_KEYS if key in value]
    candidates = named[:1] or [item for item in value.values() if isinstance(item, list | dict)]
    return _strings_in(candidates[0]) if len(candidates) == 1 else None


def _name_of(item: object) -> str | None:
    """Return a string as it is, and of an object such as `{"name": "dog"}` its name."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        return next((item[key] for key in NAME_KEYS if isinstance(item.get(key), str)), None)
    return None


def _clean(text: str) -> str:
    # A JSON escape can name half a character or a control character, which no answer could carry on.
    words = spaced_once(text).split()
    if words and words[0].casefold() in ARTICLES:
        words = words[1:]
    return " ".join(words).rstrip(" .,;:")
