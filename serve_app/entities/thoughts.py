"""The thoughts that a reasoning model writes before its answer: where they begin and end. Pure text."""

from __future__ import annotations

import re

_NAMES = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection)"
_OPENING = re.compile(
    rf"<\s*{_NAMES}\s*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<unused94>"
    r"|<\|channel\|>\s*(?:analysis|commentary)\b|<\|channel>\s*thought\b|(?:^|\n)Thinking\.\.\.[ \t]*\n",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"<\s*/\s*{_NAMES}\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<unused95>|<channel\|>"
    r"|<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>|\n?\.\.\.done thinking\.",
    re.IGNORECASE,
)
"""Source: the chat templates of Qwen3, DeepSeek-R1, Magistral, Kimi, Seed-OSS, OpenThinker, Cohere, gpt-oss, MedGemma
and Gemma 4, and what Ollama prints."""

_PARTS = frozenset({"<|channel|>", "<|message|>", "<|constrain|>", "<|channel>"})
"""Tokens of which gpt-oss and Gemma 4 make their marks, with words between."""


def without_thoughts(reply: str) -> str:
    """Cut the thoughts out of a reply. A thought that does not end is no answer.

    Args:
        reply: text of a model. It may begin inside a thought, because some chat templates open one in the prompt.

    >>> without_thoughts('<think> Maybe ["cat"]? </think> ["dog"]')
    ' ["dog"]'
    >>> without_thoughts('<think>["cat"]')
    ''
    """
    answer = reply[_end_of_last(_CLOSING, reply) :]
    opening = _OPENING.search(answer)
    return answer[: opening.start()] if opening else answer


def ends_in_thought(text: str) -> bool:
    """Tell whether a thought is open at the end of a text, such as the prompt that a chat template makes."""
    return _end_of_last(_OPENING, text) > _end_of_last(_CLOSING, text)


def is_mark(token: str) -> bool:
    """Tell whether a token is a mark that opens or closes a thought, or part of one."""
    return token in _PARTS or (_OPENING.fullmatch(token) or _CLOSING.fullmatch(token)) is not None


def _end_of_last(mark: re.Pattern[str], text: str) -> int:
    """Return where the last mark ends; 0 where there is none."""
    return max((found.end() for found in mark.finditer(text)), default=0)
