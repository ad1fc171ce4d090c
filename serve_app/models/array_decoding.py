"""Stops the decoding of a reply at the end of its JSON array and, if configured, allows no other form of reply.

Needs only token ids and the tokenizer, not the model or the prompt.
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
"""Number of items that a reply may have for each entity that `limits.max_entities` allows. It is above 1, because items
that the filter removes do not count, and items above the limit are reported as dropped. There is a bound, because a
model may repeat itself without end."""


def array_schema(limits: LimitsConfig) -> JsonSchema:
    """Return the JSON schema of a list of entities. It bounds the length of a reply.

    Args:
        limits: the longest entity in characters, and the number of entities. The list may be ITEMS_PER_ENTITY times
            as long.
    """
    item: JsonSchema = {"type": "string", "minLength": 1, "maxLength": limits.max_entity_chars}
    return {"type": "array", "items": item, "maxItems": ITEMS_PER_ENTITY * limits.max_entities}


ARRAY_SCHEMA = array_schema(LimitsConfig())
"""The schema for the default limits."""


class ReplyText:
    """Decodes a reply's tokens to text. It removes special tokens, except the marks that enclose a thought.

    Args:
        tokenizer: the model's own. Some tokenizers list the marks of a thought as special tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        special = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        self._hidden = frozenset(index for index, token in special if not is_mark(token))

    def __call__(self, tokens: Tensor) -> str:
        """Return the text of one reply.

        Args:
            tokens: (length,) token ids, of any integer type.
        """
        shown = [token for token in tokens.tolist() if token not in self._hidden]
        text: str = self._tokenizer.decode(shown)
        return text


def closing_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of all tokens that contain `]` or `}`, and so may close an array or an object."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return frozenset(index for token, index in vocabulary.items() if "]" in token or "}" in token)


class ArrayEnd(StoppingCriteria):  # type: ignore[misc]  # the library is untyped
    """Stops each row of one `generate` call at the token that completes its array, because the rest is never read.

    Args:
        tokenizer: decodes a row when a closing token appears. A bracket inside a string does not end the array.
        closing: `closing_tokens` of that tokenizer.
        prompt_length: number of columns of `input_ids` that belong to the prompt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, closing: frozenset[int], prompt_length: int) -> None:
        self._text = ReplyText(tokenizer)
        self._closing = closing
        self._prompt_length = prompt_length
        self._ended: list[bool] = []

    def has_ended(self, row: int) -> bool:
        """Tell whether the array of a row is complete."""
        return bool(self._ended) and self._ended[row]

    def __call__(
        self,
        input_ids: Tensor,
        scores: Tensor,  # noqa: ARG002  # StoppingCriteria's signature
        **kwargs: Any,  # noqa: ARG002  # StoppingCriteria's signature
    ) -> Tensor:
        """Return which rows are complete.

        Args:
            input_ids: (rows, columns) int64, prompt and reply so far.
            scores: not used.
            **kwargs: not used.

        Returns:
            (rows,) bool, on the device of `input_ids`.
        """
        last = input_ids[:, -1].tolist()
        self._ended = self._ended or [False] * len(last)
        for row, token in enumerate(last):
            if not self._ended[row] and token in self._closing:
                self._ended[row] = is_complete(self._text(input_ids[row, self._prompt_length :]))
        return torch.tensor(self._ended, device=input_ids.device)


class ArrayGrammar:
    """Restricts a model's replies to a JSON array of strings.

    Args:
        tokenizer: the model's own.
        vocab_size: columns of the model's logits; may be more than the tokenizer's vocabulary.
        stop_tokens: ids that end a reply; only they may follow the array.
        schema: the JSON schema of the array.

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
                "models.text_parser.constrained_decoding: the package xgrammar is not installed; install it with "
                "pip install 'genseg[constrained]', or set this key to false"
            ) from None
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab_size, stop_token_ids=stop_tokens)
        # Arbitrary white space would allow an endless reply of blanks.
        self._grammar = xgrammar.GrammarCompiler(info).compile_json_schema(
            schema, any_whitespace=False, separators=(", ", ": ")
        )
        self._processor = GrammarProcessor

    def processor(self) -> LogitsProcessor:
        """Return a new logits processor. Use it for one `generate` call only, because it keeps state for each row."""
        return self._processor(self._grammar)
