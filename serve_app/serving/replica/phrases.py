"""A segmenter replica's phrases: each is embedded once, and those that the model cannot read are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serve_app.errors import InvalidRequest
from serve_app.models.interface import Features, PhraseChecker
from serve_app.serving.replica.batching import PullBatcher
from serve_app.serving.replica.cache import CachedWork


class PhraseReading:
    """Reads phrases with one model.

    Args:
        embedder: runs the text pass.
        embedded: features by phrase, kept between requests.
        checker: tells what the model cannot read without a text pass; None where the model has no such method.
    """

    def __init__(
        self, embedder: PullBatcher[str, Features], embedded: CachedWork[Features], checker: PhraseChecker | None
    ) -> None:
        self._embedder = embedder
        self._embedded = embedded
        self._checker = checker

    async def read(self, phrases: Sequence[str], request_id: str) -> tuple[dict[str, Features], dict[str, str]]:
        """Embed phrases.

        Args:
            phrases: distinct; may be none.
            request_id: whose turn it is.

        Returns:
            Features by phrase, and the reasons of those that the model cannot read; both in the order given.

        Raises:
            Exception: whatever else the text pass came to.
        """
        outcomes = await asyncio.gather(*(self._embed(phrase, request_id) for phrase in phrases))
        found = [*zip(phrases, outcomes, strict=True)]
        return (
            {phrase: outcome for phrase, outcome in found if not isinstance(outcome, InvalidRequest)},
            {phrase: outcome.message for phrase, outcome in found if isinstance(outcome, InvalidRequest)},
        )

    async def unreadable(self, phrases: Sequence[str], request_id: str) -> dict[str, str]:
        """Return the reasons of the phrases that the model cannot read; arguments as of `read`."""
        if self._checker is None:
            return (await self.read(phrases, request_id))[1]
        outcomes = await asyncio.to_thread(self._checker.check_phrases, phrases)
        found = zip(phrases, outcomes, strict=True)
        return {phrase: outcome.message for phrase, outcome in found if outcome is not None}

    async def _embed(self, phrase: str, request_id: str) -> Features | InvalidRequest:
        async def make() -> Features:
            (features,) = await self._embedder.submit([phrase], request_id)
            if isinstance(features, BaseException):
                raise features
            return features

        try:
            return await self._embedded.get(phrase, make)
        except InvalidRequest as error:
            return error
