"""Decoding aids for replies that are one JSON array: where to stop, and, on request, what is allowed.

Knows token ids and tokenizers; no model and no prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from serve_app.config.schema import LimitsConfig
from serve_app.entities.chat import is_complete
from serve_app.entities.thoughts import is_mark
from serve_app.errors import ConfigError

JsonSchema = dict[str, JsonValue]


ITEMS_PER_ENTITY = 2
"""How many items a reply may have for each entity that counts: those over the limit are reported as dropped, and those
that name nothing to see take no place. A bound all the same: a model that repeats itself would go on to its limit."""


def array_schema(limits: LimitsConfig) -> JsonSchema:
    """Return the JSON schema of a list of entities, so that no reply can go on for ever.

    Args:
        limits: the longest entity, and how many there may be; the list may be ITEMS_PER_ENTITY times as long.
    """
    item: JsonSchema = {"type": "string", "minLength": 1, "maxLength": limits.max_entity_chars}
    return {"type": "array", "items": item, "maxItems": ITEMS_PER_ENTITY * limits.max_entities}


ARRAY_SCHEMA = array_schema(LimitsConfig())
"""The schema within the default limits."""


class ReplyText:
    """Turns a reply's tokens into text: without special tokens, but with the marks of a thought.

    Args:
        tokenizer: the model's own. Some tokenizers count the marks of a thought among their special tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        special = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        self._hidden = frozenset(index for index, token in special if not is_mark(token))

    def __call__(self, tokens: Tensor) -> str:
        """Return the text of one reply.

        Args:
            tokens: ids, shape (length,).
        """
        shown = [token for token in tokens.tolist() if token not in self._hidden]
        text: str = self._tokenizer.decode(shown)
        return text


def closing_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of all tokens that can close an array or an object: those that contain `]` or `}`."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return frozenset(index for token, index in vocabulary.items() if "]" in token or "}" in token)


class ArrayEnd(StoppingCriteria):  # type: ignore[misc]  # the library is untyped
    """Stops each row of one `generate` at the token that completes its array; what follows could not matter.

    Args:
        tokenizer: decodes a row when a closing token appears, to tell the end from a bracket inside a string.
        closing: `closing_tokens` of that tokenizer.
        prompt_length: columns of `input_ids` that are no reply.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, closing: frozenset[int], prompt_length: int) -> None:
        self._text = ReplyText(tokenizer)
        self._closing = closing
        self._prompt_length = prompt_length
        self._ended: list[bool] = []

    def has_ended(self, row: int) -> bool:
        """Tell whether a row was stopped at its array's end."""
        return bool(self._ended) and self._ended[row]

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Tell which rows are complete, shape (rows,), bool, on the device of `input_ids`."""
        last = input_ids[:, -1].tolist()
        self._ended = self._ended or [False] * len(last)
        for row, token in enumerate(last):
            if not self._ended[row] and token in self._closing:
                self._ended[row] = is_complete(self._text(input_ids[row, self._prompt_length :]))
        return torch.tensor(self._ended, device=input_ids.device)


class ArrayGrammar:
    """Lets a model write nothing but a JSON array of strings.

    Args:
        tokenizer: the model's own.
        vocab_size: columns of the model's logits; may exceed the tokenizer's vocabulary.
        stop_tokens: ids that end a reply; only they may follow the array.
        schema: what the array may hold.

    Raises:
        ConfigError: xgrammar is not installed.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocab_size: int,
        stop_tokens: list[int],
        schema: JsonSchema = ARRAY_SCHEMA,
    ) -> None:
        try:
            import xgrammar
            from xgrammar.contrib.hf import LogitsProcessor as GrammarProcessor
        except ImportError:
            raise ConfigError(
                "models.text_parser.constrained_decoding: needs the package xgrammar, which is not installed"
            ) from None
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab_size, stop_token_ids=stop_tokens)
        # Free white space would allow an endless reply of blanks.
        self._grammar = xgrammar.GrammarCompiler(info).compile_json_schema(
            schema, any_whitespace=False, separators=(", ", ": ")
        )
        self._processor = GrammarProcessor

    def processor(self) -> LogitsProcessor:
        """Return a fresh logits processor: each follows the rows of one `generate` only."""
        return self._processor(self._grammar)
