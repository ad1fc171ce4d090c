"""SAM3's text pass: turns phrases into text features, and refuses phrases that are too long."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Sam3Model

from serve_app.errors import InvalidRequest
from serve_app.models.sam3_features import PhraseFeatures


class PhraseEmbedder:
    """Runs the text encoder. `check` may be called from any thread.

    Args:
        model: the loaded model, on its device.
        tokenizer: the checkpoint's own.
    """

    def __init__(self, model: Sam3Model, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # the Rust tokenizer fails ("Already borrowed") if two threads use it
        self._positions = int(model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def embed(self, phrases: Sequence[str]) -> list[PhraseFeatures | InvalidRequest]:
        """Run the text encoder; see `Sam3Segmenter.embed`."""
        if not phrases:
            return []
        tokens = self._tokens(phrases)
        good = [index for index, mask in enumerate(tokens["attention_mask"]) if self._fits(mask)]
        found: dict[int, PhraseFeatures] = {}
        if good:
            device = self._model.device
            ids = torch.tensor([tokens["input_ids"][index] for index in good], device=device)
            mask = torch.tensor([tokens["attention_mask"][index] for index in good], device=device)
            states = self._model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
            for row, index in enumerate(good):
                found[index] = PhraseFeatures(phrases[index], states[row].clone(), mask[row].bool())
        return [found.get(index) or self._too_long() for index in range(len(phrases))]

    def check(self, phrases: Sequence[str]) -> list[InvalidRequest | None]:
        """Return the errors that `embed` would return; see `interface.PhraseChecker`. Any thread may call it."""
        return [None if self._fits(mask) else self._too_long() for mask in self._tokens(phrases)["attention_mask"]]

    def _tokens(self, phrases: Sequence[str]) -> Mapping[str, list[list[int]]]:
        with self._tokenizing:
            tokens: Mapping[str, list[list[int]]] = self._tokenizer(
                [*phrases],
                padding="max_length",
                max_length=self._positions,
                truncation=False,
                return_attention_mask=True,
            )
        return tokens

    def _fits(self, mask: Sequence[int]) -> bool:
        return sum(mask) <= self._positions

    def _too_long(self) -> InvalidRequest:
        return InvalidRequest(f"longer than the {self._positions} tokens that the segmenter reads")
