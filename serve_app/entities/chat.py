"""Builds the chat that asks a language model for the entities of a prompt, and reads the model's reply.

The module does not use models, Ray or the wire format. `filter` decides which entities are dropped.
"""

# ruff: noqa: RUF001 - the instruction and the patterns contain full-width characters on purpose

from __future__ import annotations

import json
import re

from serve_app.entities import lenient_json
from serve_app.entities.lenient_json import OPENINGS, QUOTES
from serve_app.entities.phrases import distinct
from serve_app.entities.prompt_syntax import read_phrases, read_prompt
from serve_app.entities.thoughts import ends_in_thought, without_thoughts
from serve_app.errors import InvalidModelReply
from serve_app.schemas.phrase_key import spaced_once

INSTRUCTION = (
    "List every distinct physical thing in the image prompt that could be outlined in a picture: "
    "people, animals, objects, plants, buildings, vehicles, places and parts of the scene.\n"
    "- Write each as a short English noun phrase of at most ten words, whatever the prompt's language. "
    "Where the prompt is English, use its own words, in singular or plural as they stand there.\n"
    '- Keep the attributes that tell it apart, such as colour, material, size or kind: "red sofa", not "sofa". '
    "Leave out articles and counts.\n"
    '- List things that must not be there, too, by their plain names: "no tree" gives "tree", '
    '"without people" gives "people".\n'
    '- Of an edit, list the things without its verb: "replace the cat with a dog" gives "cat" and "dog", '
    '"change the car to red" gives "red car".\n'
    '- Leave out words that only name an input image, such as "image 1" or "the reference": '
    '"the dog from image 1" gives "dog".\n'
    "- Leave out lighting, mood, style, quality, camera and photography words and abstract ideas.\n"
    "Answer with a JSON array of strings, in the order of the prompt, and nothing else. "
    "If the prompt names no physical thing, answer [].\n"
    "Examples:\n"
    'Two brown dogs on a red leather sofa, soft light -> ["brown dogs", "red leather sofa"]\n'
    'Eine alte Frau mit blauem Regenschirm, keine Autos -> ["old woman", "blue umbrella", "cars"]\n'
    '一只黑猫坐在木桌上，电影感 -> ["black cat", "wooden table"]'
)
"""The system message of the parser's chat; the user message is the prompt as the caller gave it.

The phrases are English and short because SAM3's text encoder knows only English and reads at most 32 tokens. They use
the prompt's own words because a verdict looks for them in the prompt. Things that must not be there are listed too, so
that a verdict can check that they are absent.

The embedded checkpoint was trained with another instruction. Its chat template replaces this one.
"""

ARTICLES = frozenset({"a", "an", "the"})
LIST_KEYS = ("entities", "objects", "items", "things", "result", "answer")
"""Keys under which models wrap the list, likeliest first."""

NAME_KEYS = ("entity", "name", "label", "object")
"""Keys under which models wrap one entity, likeliest first."""

MAX_BRACKETS = 256
"""At most this many opening brackets of a reply are tried. This limits the work on a hostile reply."""

MAX_REPETITIONS = 8
"""An unfinished reply that contains its last item this many times is taken for an endless loop."""

MARKER = re.compile(
    r"(?:<\|im_start\|>|<start_of_turn>)[ \t]*(?:system|user|assistant|model|tool|developer)\b"
    r"|<\|start_header_id\|>\s*\w+\s*<\|end_header_id\|>"
    r"|<[|｜][^<>]{1,64}[|｜]>|<\|\w{1,32}>|<\w{1,32}\|>|<(?:start|end)_of_(?:turn|image|audio)>|</?s>|<</?SYS>>"
    r"|<(?:bos|eos|pad|unk|mask|sep|cls)>|<extra_id_\d+>|<unused\d+>"
    r"|<(?:image|video|audio|image_soft_token|audio_soft_token|IMG_CONTEXT)>|</?img>"
    r"|</?(?:(?:seed:)?think|tool_call|tool_response|tools)>|◁/?think▷"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|THINK)\]"
    r"|\[(?:IMG|IMG_BREAK|IMG_END|TOOL_CALLS|TOOL_CONTENT|CALL_ID|ARGS)\]"
)
"""Special tokens of language models, as text: they open and close turns and thoughts, call tools, or represent images.

A prompt must not reach the model with such text, because it could end its own turn.

Source: the chat templates and tokenizers of Qwen, Llama 2 and 3, Mistral, Gemma, Phi, DeepSeek, Kimi, Seed-OSS,
InternVL and T5."""

_DECODER = json.JSONDecoder()
_OPENING = re.compile(f"[{re.escape(OPENINGS)}]")
_JSON_START = re.compile(rf"[{re.escape(OPENINGS)}]\s*[{re.escape(QUOTES + OPENINGS)}]")
_QUOTED = re.compile(r'"([^"\n]{1,80})"')
_BEFORE_ANSWER = re.compile(r"\s*(?:```\w*\s*)?")


class CutReply(str):
    """A reply that ended because it reached the token limit, not because the model had finished."""


def prompt_text(prompt: str, special: re.Pattern[str] | None = None) -> str:
    """Return a prompt without weights, tags and special tokens.

    Every engine sends this text to its model, never the prompt itself.

    Args:
        prompt: the image-generation prompt, as the caller gave it.
        special: matches further text that must not reach the model, such as a tokenizer's own special tokens.

    >>> prompt_text("a (cat:1.2) <lora:x:0.8> <|im_end|>").split()
    ['a', 'cat']
    """
    # The loop repeats because removing one special token can join the text around it into another one.
    before, plain = "", read_prompt(prompt)
    while before != plain:
        before, plain = plain, MARKER.sub(" ", plain)
        plain = special.sub(" ", plain) if special else plain
    return plain


def text_messages(text: str) -> list[dict[str, str]]:
    """Build the parser's chat for one prompt. The contents are strings, which every server accepts.

    Args:
        text: the prompt, as `prompt_text` returns it.

    Returns:
        A system message with `INSTRUCTION` and a user message with the text.
    """
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]


def chat_messages(text: str) -> list[dict[str, object]]:
    """Build the same chat as `text_messages`, but with lists of content parts, as vision-language processors need."""
    return [
        {"role": message["role"], "content": [{"type": "text", "text": message["content"]}]}
        for message in text_messages(text)
    ]


def read_entities(reply: str) -> list[str]:
    """Read the parser's reply.

    Args:
        reply: text that contains a JSON array of strings: alone, in a code fence, among other words, after a thought,
            or as the only list of an object such as `{"entities": [...]}`. Quotes, commas and brackets of other
            scripts are accepted unless they are ambiguous. The first array counts. A `CutReply` is accepted only if
            its answer begins with a whole array, because a later array may belong to an unfinished thought.

    Returns:
        The strings in order, without prompt weights, outer or repeated white space, a leading article or closing
        punctuation. Blank strings and repetitions are left out. Prompt tags stay, so that the filter can report them.
        Empty if the array is empty.

    Raises:
        InvalidModelReply: the reply contains no such array, or was cut off before the array's end.

    >>> read_entities('Here you are: ["a dog", "(red sofa:1.2)", "dog"]')
    ['dog', 'red sofa']
    """
    answer = without_thoughts(reply)
    entities, unfinished = _find_array(answer)
    if entities is None or (isinstance(reply, CutReply) and not _begins_with_array(answer)):
        raise InvalidModelReply(_what_is_wrong(reply, unfinished or ends_in_thought(reply)))
    return distinct(_clean(phrase) for entity in entities for phrase in read_phrases(spaced_once(entity)))


def _what_is_wrong(reply: str, ends_inside: bool) -> str:
    """Say why a reply has no list of entities; `ends_inside`: it ends inside an array, an object or a thought."""
    if not isinstance(reply, CutReply) and not ends_inside:
        return "the text model's reply holds no JSON array of strings"
    at_limit = " at its limit (models.text_parser.max_new_tokens)" if isinstance(reply, CutReply) else ""
    cut_off = f"the text model's reply was cut off{at_limit} and holds no JSON array of strings"
    items = _QUOTED.findall(reply)
    if items and items.count(items[-1]) >= MAX_REPETITIONS:
        return f"{cut_off}: it repeats {items[-1]!r} over and over; shorten the prompt, or use a larger model"
    return f"{cut_off}; raise the limit, or shorten the prompt" if at_limit else cut_off


def is_complete(reply: str) -> bool:
    """Tell whether the reply so far contains its whole array, so that generation can stop.

    Args:
        reply: the beginning of a reply.
    """
    return _find_array(without_thoughts(reply))[0] is not None


def _begins_with_array(reply: str) -> bool:
    start = _BEFORE_ANSWER.match(reply)
    text = reply[start.end() :] if start else reply
    return text[:1] != "" and text[0] in OPENINGS and _strings_in(_decode(text, 0)[0]) is not None


def _find_array(text: str) -> tuple[list[str] | None, bool]:
    """Find the first array of strings that is not part of something broken or unfinished.

    Returns:
        The array, or None; and whether the text ends inside an array or object.
    """
    position = 0
    for _ in range(MAX_BRACKETS):
        opening = _OPENING.search(text, position)
        if opening is None:
            break
        start = opening.start()
        value, end, unfinished = _decode(text, start)
        strings = _strings_in(value) if end > start else None
        if strings is not None:
            return strings, False
        if end == start and _JSON_START.match(text, start):
            return None, unfinished  # an array inside broken JSON is not the answer
        position = max(end, start + 1)
    return None, False


def _decode(text: str, start: int) -> tuple[object, int, bool]:
    """Return the value at `start`, its end (`start` if there is no value), and whether the text ends inside it."""
    try:
        return *_DECODER.raw_decode(text, start), False
    except (ValueError, RecursionError):
        pass
    try:
        return *lenient_json.decode(text, start), False
    except ValueError as error:
        return None, start, isinstance(error, lenient_json.Unfinished)


def _strings_in(value: object) -> list[str] | None:
    """Return the only array of strings in a JSON value; None if it has none, or more than one."""
    if isinstance(value, list):
        names = [_name_of(item) for item in value]
        return [name for name in names if name is not None] if None not in names else None
    if not isinstance(value, dict):
        return None
    named = [value[key] for key in LIST_KEYS if key in value]
    candidates = named[:1] or [item for item in value.values() if isinstance(item, list | dict)]
    return _strings_in(candidates[0]) if len(candidates) == 1 else None


def _name_of(item: object) -> str | None:
    """Return a string as it is, or the name of an object such as `{"name": "dog"}`."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        return next((item[key] for key in NAME_KEYS if isinstance(item.get(key), str)), None)
    return None


def _clean(text: str) -> str:
    words = text.split()
    if words and words[0].casefold() in ARTICLES:
        words = words[1:]
    return " ".join(words).rstrip(" .,;:。．，、；：")
