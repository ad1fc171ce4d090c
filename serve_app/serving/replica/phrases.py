"""Compute the features of phrases in a segmenter replica, and find the phrases that the model cannot read."""

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
        embedder: runs the text encoder in batches.
        embedded: caches features by phrase.
        checker: finds unreadable phrases without the text encoder; None if the model has no such method.
    """

    def __init__(
        self, embedder: PullBatcher[str, Features], embedded: CachedWork[Features], checker: PhraseChecker | None
    ) -> None:
        self._embedder = embedder
        self._embedded = embedded
        self._checker = checker

    async def read(self, phrases: Sequence[str], request_id: str) -> tuple[dict[str, Features], dict[str, str]]:
        """Compute the features of phrases, or take them from the cache.

        Args:
            phrases: distinct; may be empty.
            request_id: the request whose turn of the model is used.

        Returns:
            The features of the readable phrases, and the reasons for the unreadable ones. Both are dicts by phrase, in
            the order given.

        Raises:
            Exception: the text encoder failed for a reason other than an unreadable phrase.
        """
        outcomes = await asyncio.gather(*(self._embed(phrase, request_id) for phrase in phrases))
        found = [*zip(phrases, outcomes, strict=True)]
        return (
            {phrase: outcome for phrase, outcome in found if not isinstance(outcome, InvalidRequest)},
            {phrase: outcome.message for phrase, outcome in found if isinstance(outcome, InvalidRequest)},
        )

    async def unreadable(self, phrases: Sequence[str], request_id: str) -> dict[str, str]:
        """Return the reason for each phrase that the model cannot read; arguments as in `read`."""
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
