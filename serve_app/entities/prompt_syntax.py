"""Reads the weights and tags of image prompts, as users of Stable Diffusion and Midjourney write them.

They appear in a prompt, before the language model reads it, and in phrases that a language model copied from a prompt.

    written                                            | means
    ---------------------------------------------------+-----------------------------------
    (cat:1.2)  ((cat))  [[cat]]  {cat}  cat++  cat::2  | cat, with a weight
    [cat:0.5]  [cat::0.5]                              | cat, in some of the steps
    [red|blue] car  {red|blue} car  [red:blue:0.5] car | red car, and blue car
    cat AND dog                                        | cat, and dog
    <lora:x:0.8>  embedding:x  __x__  BREAK  --ar 16:9 | a tag: a setting of the image generator

Source: the prompt syntax of AUTOMATIC1111's web UI, ComfyUI, InvokeAI, NovelAI, Dynamic Prompts and Midjourney.
"""

# ruff: noqa: RUF001 - the patterns contain full-width brackets and colons on purpose

from __future__ import annotations

import re

MAX_ROUNDS = 32
"""Brackets are removed at most this many times; deeper nesting stays as it is."""

MAX_PHRASES = 16
"""A phrase with alternatives becomes at most this many phrases."""

_OPEN, _CLOSE = r"(?<!\\)[(（\[{]", r"[)）\]}]"
_INSIDE = r"(?:\\.|[^()（）\[\]{}\\])*"
"""Repeated lazily or possessively: a greedy repetition could need quadratic time for a failed match."""

_NO_PIPE, _NO_COLON = r"(?:\\.|[^()（）\[\]{}\\|])*+", r"(?:\\.|[^()（）\[\]{}\\:：])*+"
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_WEIGHT = rf"\s*+[:：]\s*+{_NUMBER}\s*+"
_SMALL_WEIGHT = r"\s*+[:：]\s*+[-+]?(?:\d(?:\.\d*)?|\.\d+)\s*+"
"""A weight without brackets is below 10: "ISO:100" has no weight."""

_PARAMETERS = (
    "ar|aspect|v|version|niji|style|stylize|s|chaos|c|quality|q|seed|sameseed|stop|tile|iw|cref|cw|sref|sw|"
    "oref|ow|weird|w|h|width|height|repeat|r|profile|p|fast|relax|turbo|hd|raw|draft|exp|test|testp|creative|video|motion|loop"
)
"""Parameters at the end of a prompt. Source: Midjourney's parameter list."""

_PARAMETER = rf"--(?:no\s+(?:(?!--).)+|(?:{_PARAMETERS})(?:[ =]+(?!--)[^\s,]+){{0,3}})"
_BREAK = re.compile(r"(?<!\w)BREAK(?!\w)")
_TAG = re.compile(
    r"<[A-Za-z][\w-]*:[^<>]*>"  # <lora:name:0.8>, <lyco:name>, <hypernet:name:1>
    r"|(?<!\w)(?:embedding|ti):[\w./\\-]+(?::[\d.]+)?"
    r"|(?<!\w)(?:__(?:(?!__)[\w*/-])+__)+(?!\w)"
    rf"|(?<!\S){_PARAMETER}(?:\s+{_PARAMETER})*\s*$"
    rf"|{_BREAK.pattern}",
    re.DOTALL,
)
_DOUBLED = re.compile(
    rf"(?<![(（\[{{\\])(?:[(（\[{{]\s*){{2,}}+({_INSIDE}?)(?:{_WEIGHT})?{_CLOSE}(?:{_WEIGHT})?(?:\s*{_CLOSE})+"
)
_CHOICE = re.compile(
    rf"(?<!\\)[\[{{](?:[\d.]+(?:::|\$\$))?({_NO_PIPE}\|{_INSIDE}+)[\]}}]"  # [cat|dog], {cat|dog}
    rf"|(?<!\\)\[({_NO_COLON})[:：]({_NO_COLON})[:：]\s*{_NUMBER}\s*\]"  # [cat:dog:0.5]
)
_WEIGHTED = re.compile(rf"{_OPEN}({_INSIDE}?)[:：]\s*({_NUMBER})\s*{_CLOSE}")
_BRACES = re.compile(r"(?<!\\)\{((?:\\.|[^()\[\]{}\\|])*)\}")
_PARTED = re.compile(r"(?<=\S)::(?:\s*-?\d+(?:\.\d+)?)?(?=\s|$)")
_JOINED = re.compile(r"(?<!\s)\s+AND\s+")
_ESCAPED = re.compile(r"\\([()\[\]{}])")
_WEIGHT_BEHIND = re.compile(
    rf"(?<=[^\W\d])(?:{_SMALL_WEIGHT}|(?<!\b[A-Za-z])(?:\+{{2,}}|-{{2,}}))$"  # the marks of "C++" are its name
    rf"|(?<=[)\]}}])(?:{_NUMBER}|\++|-+|{_WEIGHT})$"
)
_TOUCHES_BEFORE, _TOUCHES_AFTER = re.compile(r"[\w)\]}）]"), re.compile(r"[\w(\[{（]")
_WEIGHT_BEFORE = re.compile(rf"^{_NUMBER}::")
_PAIRS = {"(": ")", "（": "）", "[": "]", "{": "}"}


def is_tag(phrase: str) -> bool:
    """Tell whether a whole phrase is a tag: a setting of the image generator, which names nothing in the picture."""
    return phrase == "AND" or _TAG.fullmatch(phrase) is not None


def tags_in(prompt: str) -> list[str]:
    """Return the tags of a prompt in order and without repetitions; the separator BREAK is left out.

    >>> tags_in("a cat <lora:x:0.8> BREAK a dog --ar 16:9")
    ['<lora:x:0.8>', '--ar 16:9']
    """
    found = (each.group().strip() for each in _TAG.finditer(prompt))
    return [*dict.fromkeys(tag for tag in found if not _BREAK.fullmatch(tag))]


def has_only_tags(prompt: str) -> bool:
    """Tell whether a prompt contains tags and nothing else.

    >>> has_only_tags("--no text, a dog"), has_only_tags("a dog --no text"), has_only_tags(" ")
    (True, False, False)
    """
    return _TAG.search(prompt) is not None and not _JOINED.sub(" ", _TAG.sub(" ", prompt)).strip(" ,()[]{}\t\r\n")


def read_prompt(prompt: str) -> str:
    """Return a prompt as plain text, without tags and weights.

    A prompt that has no such syntax, or nothing but such syntax, stays as it is. Single brackets without a weight stay,
    because plain English has them too.

    >>> read_prompt("((red sofa)), a (cat:1.2) in a [red|blue] car <lora:add_detail:0.8>")
    'red sofa, a cat in a red or blue car'
    """
    text = _TAG.sub(" ", _BREAK.sub(",", prompt))
    for _ in range(MAX_ROUNDS):
        before = text
        text = _CHOICE.sub(lambda found: _apart(found, " or ".join(_chosen(found))), _without_weights(text))
        if text == before:
            break
    text = _PARTED.sub(",", _ESCAPED.sub(r"\1", text))
    text = text if prompt.isupper() else _JOINED.sub(", ", text)
    if text == prompt:
        return prompt
    return re.sub(r" {2,}", " ", re.sub(r" +(?=,)|(?<=,)(?:\s*,)+", "", text)).strip(" ,") or prompt


def read_phrases(phrase: str) -> list[str]:
    """Read a phrase that may hold prompt syntax.

    Args:
        phrase: an entity as a language model wrote it.

    Returns:
        The plain phrases that it names, in order, and then its tags as they are. A phrase without such syntax is
        returned alone and unchanged.

    >>> read_phrases("(cat:1.2) <lora:add_detail:0.8>")
    ['cat', '<lora:add_detail:0.8>']
    >>> read_phrases("[red|blue] car")
    ['red car', 'blue car']
    """
    if is_tag(phrase.strip()):
        return [phrase.strip()]
    tags = [found.group() for found in _TAG.finditer(phrase)]
    text = _TAG.sub("\n", phrase)
    text = text if phrase.isupper() else _JOINED.sub("\n", text)
    spread = [choice for line in text.split("\n") for choice in _spread(line)]
    pieces = [_ESCAPED.sub(r"\1", _bare(piece)) for line in spread for piece in line.split("|")]
    if pieces != [phrase]:
        pieces = [" ".join(piece.split()) for piece in pieces]  # two replacements side by side leave two spaces
    return [piece for piece in pieces if piece] + tags


def _spread(phrase: str) -> list[str]:
    """Return the phrase once for each of its alternatives, without weights in brackets."""
    phrases = [phrase]
    for _ in range(MAX_ROUNDS):
        before = phrases
        phrases = []
        for text in map(_without_weights, before):
            found = _CHOICE.search(text)
            if found is None:
                phrases.append(text)
            else:
                phrases += [
                    text[: found.start()] + _apart(found, part) + text[found.end() :] for part in _chosen(found)
                ]
        if len(phrases) > MAX_PHRASES:  # keep only the first of each remaining group of alternatives
            return [_CHOICE.sub(lambda found: _apart(found, "".join(_chosen(found)[:1])), text) for text in before]
        if phrases == before:
            break
    return phrases


def _chosen(found: re.Match[str]) -> list[str]:
    """Return the alternatives that a match of _CHOICE names."""
    parts = found.group(1).split("|") if found.group(1) is not None else found.groups()[1:]
    return [part.strip() for part in parts if part.strip()]


def _apart(found: re.Match[str], content: str) -> str:
    """Return a match's replacement, with a space where it would join a neighbour: "(cat:1.2)(dog:1.2)"."""
    text, (start, end) = found.string, found.span()
    before = " " if start and _TOUCHES_BEFORE.match(text, start - 1) else ""
    after = " " if _TOUCHES_AFTER.match(text, end) else ""
    return f"{before}{content}{after}"


def _without_weights(text: str) -> str:
    """Remove brackets that give a weight."""

    def content(found: re.Match[str]) -> str:
        inside, weight = found.groups()
        is_ratio = inside[-1:].isdigit() and "." not in weight  # such as (16:9)
        is_switch = found.group()[0] == "[" and re.search("[:：]", inside)
        return found.group() if is_ratio or is_switch else _apart(found, inside.strip())

    def first(found: re.Match[str]) -> str:
        return _apart(found, found.group(1))

    for _ in range(MAX_ROUNDS):
        before = text
        text = _BRACES.sub(first, _WEIGHTED.sub(content, _DOUBLED.sub(first, text)))
        if text == before:
            break
    return text


def _bare(phrase: str) -> str:
    """Remove weights, brackets around the whole phrase and unpaired brackets from the ends of a phrase."""
    for _ in range(MAX_ROUNDS):
        before = phrase
        phrase = _WEIGHT_BEFORE.sub("", _PARTED.sub("", _WEIGHT_BEHIND.sub("", phrase.strip()))).strip()
        for opening, closing in _PAIRS.items():
            surplus = _count(phrase, opening) - _count(phrase, closing)
            if phrase.startswith(opening) and (surplus > 0 or _is_around(phrase, opening, closing)):
                phrase, surplus = phrase[1:], surplus - 1
            if phrase.endswith(closing) and surplus < 0 and not phrase.endswith("\\" + closing):
                phrase = phrase[:-1]
        if phrase == before:
            break
    return phrase


def _count(phrase: str, bracket: str) -> int:
    return phrase.count(bracket) - phrase.count("\\" + bracket)


def _is_around(phrase: str, opening: str, closing: str) -> bool:
    """Tell whether the last character of a phrase closes its first bracket."""
    depth = 0
    for index, character in enumerate(phrase):
        depth += (character == opening) - (character == closing)
        if depth == 0:
            return index == len(phrase) - 1
    return False
