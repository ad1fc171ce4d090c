"""Decoding aids for replies that are one JSON array: where to stop, and, on request, what is allowed.

Knows token ids and tokenizers; no model and no prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from serve_app.entities.chat import is_complete
from serve_app.errors import ConfigError

ARRAY_SCHEMA = {"type": "array", "items": {"type": "string"}}


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
        self._tokenizer = tokenizer
        self._closing = closing
        self._prompt_length = prompt_length
        self._ended: list[bool] = []

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Tell which rows are complete, shape (rows,), bool, on the device of `input_ids`."""
        last = input_ids[:, -1].tolist()
        self._ended = self._ended or [False] * len(last)
        for row, token in enumerate(last):
            if not self._ended[row] and token in self._closing:
                reply = self._tokenizer.decode(input_ids[row, self._prompt_length :], skip_special_tokens=True)
                self._ended[row] = is_complete(reply)
        return torch.tensor(self._ended, device=input_ids.device)


class ArrayGrammar:
    """Lets a model write nothing but a JSON array of strings.

    Args:
        tokenizer: the model's own.
        vocab_size: columns of the model's logits; may exceed the tokenizer's vocabulary.
        stop_tokens: ids that end a reply; only they may follow the array.

    Raises:
        ConfigError: xgrammar is not installed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, stop_tokens: list[int]) -> None:
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
            ARRAY_SCHEMA, any_whitespace=False, separators=(", ", ": ")
        )
        self._processor = GrammarProcessor

    def processor(self) -> LogitsProcessor:
        """Return a fresh logits processor: each follows the rows of one `generate` only."""
        return self._processor(self._grammar)
