"""ParserDeployment: prompts in, filtered entities out; batched, cached, each distinct prompt read once.

Thin by design: the models are in `models.qwen3_vl` and `models.openai_parser`, the reading of replies and the filter
in `entities`, batches in `replica.batching`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

from serve_app.config.schema import AppConfig
from serve_app.config.user_config import ParserSettings, UserConfig
from serve_app.entities.chat import read_entities
from serve_app.entities.filter import EntityFilter
from serve_app.errors import DeadlineExceeded, GensegError, InternalError, TooLarge
from serve_app.serving.messages import ParsedPrompt
from serve_app.serving.replica.batching import Device, PullBatcher
from serve_app.serving.replica.cache import ByteLru, CachedWork
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.metrics import Metrics

logger = logging.getLogger("ray.serve")


class ReplySource(Protocol):
    """Whoever answers the parser's chat: one prompt in, the model's raw reply out."""

    async def reply(self, prompt: str) -> str:
        """Return the model's text."""


@runtime_checkable
class RemoteReplies(ReplySource, Protocol):
    """A reply source whose model runs elsewhere."""

    async def check(self) -> None:
        """Tell whether the server answers; raises GensegError."""


class LocalReplies:
    """Replies of a local checkpoint, many prompts in one generate."""

    def __init__(self, config: AppConfig, metrics: Metrics) -> None:
        from serve_app.models.qwen3_vl import EntityParser  # torch only where a local model runs

        parser = EntityParser.load(config.models.text_parser, config.device)
        self.health = ModelHealth()
        self.batcher: PullBatcher[str, str] = PullBatcher(
            Device(ThreadPoolExecutor(1, "parser-model")),
            parser.generate_each,
            budget=config.batching.max_prompts,
            observe=lambda size: metrics.batch_size.observe(size, tags={"axis": "prompts"}),
            note=self.health.note,
        )
        metrics.watch_queue("prompts", lambda: self.batcher.queued)

    async def reply(self, prompt: str) -> str:
        """Return the model's text."""
        (outcome,) = await self.batcher.submit([prompt], prompt)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def load_replies(config: AppConfig, metrics: Metrics) -> ReplySource:
    """Make the configured engine."""
    model = config.models.text_parser
    if model.engine == "openai":
        from serve_app.models.openai_parser import OpenAIParser

        key = os.environ.get(model.openai.api_key_env) if model.openai.api_key_env else None
        engine: ReplySource = OpenAIParser(model, api_key=key)
        return engine
    return LocalReplies(config, metrics)


def entry_bytes(prompt: str, entities: tuple[str, ...]) -> int:
    """Count what the cache holds for a prompt, the prompt itself included."""
    return sum(map(sys.getsizeof, (prompt, entities, *entities)))


class ParserDeployment:
    """Serves the language model.

    Args:
        config: everything.
        load: makes the engine; tests put a fake in its place.
    """

    def __init__(self, config: AppConfig, load: Callable[[AppConfig, Metrics], ReplySource] = load_replies) -> None:
        self._args = config
        self._config = config
        self._user_config = UserConfig("ParserDeployment", ParserSettings)
        self._metrics = Metrics()
        self._replies = load(config, self._metrics)
        self._filter = EntityFilter(config.entity_filter)
        self._parsed: CachedWork[tuple[str, ...]] = CachedWork(
            ByteLru(config.cache.prompt_bytes, entry_bytes),
            lambda hit: self._metrics.cache_lookup("prompt", hit),
        )
        self._metrics.watch_cache("prompt", lambda: self._parsed.cache.nbytes)

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take a new filter and batch size without a restart; see UserConfig for what happens to wrong ones."""
        self._user_config.take(user_config, self._apply)

    def _apply(self, settings: ParserSettings) -> None:
        self._config = settings.apply_to(self._args)
        self._filter = EntityFilter(self._config.entity_filter)
        if isinstance(self._replies, LocalReplies):
            self._replies.batcher.budget = self._config.batching.max_prompts

    def check_health(self) -> None:
        """Called by Serve: a replica whose own model keeps failing is replaced; a server elsewhere is not ours."""
        if isinstance(self._replies, LocalReplies):
            self._replies.health.check()

    async def model_name(self) -> str:
        """Name of the model, as configured; that it answers at all says that the model is loaded.

        Raises:
            GensegError: the model is on a server that does not answer.
        """
        if isinstance(self._replies, RemoteReplies):
            await self._replies.check()
        return self._config.models.text_parser.model_name

    async def parse(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float
    ) -> ParsedPrompt | GensegError:
        """List the entities of a prompt.

        Args:
            prompt: not empty.
            max_entities: more are an error, not cut off in silence.
            request_id: for the logs.
            timeout_s: seconds left until nobody waits for the answer any more.

        Returns:
            The entities, filtered; or the error, as a value.
        """
        try:
            async with asyncio.timeout(timeout_s):
                entities = await self._parsed.get(prompt, lambda: self._parse(prompt))
            found = self._filter.apply(entities)
            if len(found.kept) > max_entities:
                raise TooLarge(f"the prompt names {len(found.kept)} entities; the limit is {max_entities}", "prompt")
            return ParsedPrompt(tuple(found.kept), tuple(found.dropped))
        except TimeoutError:
            return DeadlineExceeded("the deadline passed before the prompt was read")
        except GensegError as error:
            return error
        except Exception:
            logger.exception("request %s: the prompt could not be parsed", request_id)
            return InternalError("the prompt could not be parsed")

    async def _parse(self, prompt: str) -> tuple[str, ...]:
        with self._metrics.stage("parse"):
            return tuple(read_entities(await self._replies.reply(prompt)))
