"""Finds and removes the thoughts that a reasoning model writes before its answer."""

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
"""Tokens that open or close a thought of gpt-oss and Gemma 4 together with the words between them."""


def without_thoughts(reply: str) -> str:
    """Return a reply without its thoughts; a thought that does not end is removed as well.

    Args:
        reply: text from a model. It may begin inside a thought, because some chat templates open one in the prompt.

    >>> without_thoughts('<think> Maybe ["cat"]? </think> ["dog"]')
    ' ["dog"]'
    >>> without_thoughts('<think>["cat"]')
    ''
    """
    answer = reply[_end_of_last(_CLOSING, reply) :]
    opening = _OPENING.search(answer)
    return answer[: opening.start()] if opening else answer


def ends_in_thought(text: str) -> bool:
    """Tell whether a text ends inside a thought; a prompt from a chat template may do so."""
    return _end_of_last(_OPENING, text) > _end_of_last(_CLOSING, text)


def is_mark(token: str) -> bool:
    """Tell whether a token opens or closes a thought, alone or together with other tokens."""
    return token in _PARTS or (_OPENING.fullmatch(token) or _CLOSING.fullmatch(token)) is not None


def _end_of_last(mark: re.Pattern[str], text: str) -> int:
    """Return the index after the last match; 0 without a match."""
    return max((found.end() for found in mark.finditer(text)), default=0)
