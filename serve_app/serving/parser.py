"""ParserDeployment: lists the entities of prompts, in batches and with a cache, and filters them.

Other modules do most of the work: `models.interface` describes the models, `entities` reads and filters their replies,
`replica.batching` forms the batches.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from serve_app.config.schema import AppConfig
from serve_app.config.user_config import ParserSettings, UserConfig
from serve_app.entities.chat import read_entities
from serve_app.entities.filter import EntityFilter
from serve_app.entities.mentions import Asked, read_prompt, without_references
from serve_app.entities.prompt_syntax import has_only_tags
from serve_app.errors import DeadlineExceeded, GensegError, InternalError
from serve_app.models.interface import LocalParser, Parser, RemoteParser
from serve_app.models.registry import load_parser
from serve_app.serving.autoscaling import CALLS_S
from serve_app.serving.messages import ParsedPrompt
from serve_app.serving.replica.batching import ModelThread, PullBatcher
from serve_app.serving.replica.cache import CachedWork
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.heap import give_back_free_memory
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.model_steps import model_step, step_cache, watch_model
from serve_app.serving.replica.stage import Stage
from serve_app.serving.replica.work import BusyTime

logger = logging.getLogger("ray.serve")


class Replies(Protocol):
    """Gets raw replies from the language model, which runs in this process or on a remote server."""

    async def reply(self, prompt: str, stage: Stage) -> str:
        """Return the model's reply to a prompt, and record in `stage` when the work begins; raises GensegError."""

    async def check(self) -> None:
        """Raise GensegError if the model does not answer."""

    def check_health(self) -> None:
        """Raise RuntimeError if Serve should replace the replica."""

    def limit_batches(self, max_prompts: int) -> None:
        """Put at most this many prompts into one batch from now on."""

    def work(self) -> dict[str, float]:
        """Return the work so far, by name; see `serving.autoscaling`."""


class LocalReplies:
    """Gets replies from a model in this process, in batches."""

    def __init__(self, parser: LocalParser, max_prompts: int, metrics: Metrics) -> None:
        self._health = ModelHealth()
        self._model_thread = ModelThread(ThreadPoolExecutor(1, "parser-model"))
        self._batcher: PullBatcher[str, str] = model_step(
            "prompts",
            parser.generate_each,
            max_prompts,
            thread=self._model_thread,
            health=self._health,
            metrics=metrics,
        )
        watch_model(self._model_thread, metrics)

    async def reply(self, prompt: str, stage: Stage) -> str:
        """Return the model's reply to a prompt; see Replies."""
        (outcome,) = await self._batcher.submit([prompt], prompt, stage.begins)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def check(self) -> None:
        """Do nothing, because the model is loaded."""

    def check_health(self) -> None:
        """Raise RuntimeError if the model keeps failing."""
        self._health.check()

    def limit_batches(self, max_prompts: int) -> None:
        """Put at most this many prompts into one batch from now on."""
        self._batcher.budget = max_prompts

    def work(self) -> dict[str, float]:
        """Return the work of the model, as DeviceWork measures it."""
        return self._model_thread.work.report()


class RemoteReplies:
    """Gets replies from a model on a remote server, one call per prompt."""

    def __init__(self, parser: RemoteParser, metrics: Metrics) -> None:
        self._parser, self.check = parser, parser.check
        self._calls = BusyTime()
        metrics.watch_busy("calls", lambda: self._calls.seconds)

    async def reply(self, prompt: str, stage: Stage) -> str:
        """Return the model's reply to a prompt."""
        del stage  # it records when work leaves a queue, and these calls wait in no queue
        self._calls.begin()
        try:
            return await self._parser.reply(prompt)
        finally:
            self._calls.end()

    def check_health(self) -> None:
        """Do nothing, because a new replica would not help if the remote server fails."""

    def limit_batches(self, max_prompts: int) -> None:
        """Do nothing, because the remote server forms its own batches."""

    def work(self) -> dict[str, float]:
        """Return the seconds spent in calls to the remote server, whose own work is unknown."""
        return {CALLS_S: self._calls.seconds}


def replies_of(parser: Parser, max_prompts: int, metrics: Metrics) -> Replies:
    """Return LocalReplies or RemoteReplies, depending on the kind of the parser."""
    if isinstance(parser, LocalParser):
        return LocalReplies(parser, max_prompts, metrics)
    return RemoteReplies(parser, metrics)


def entry_bytes(prompt: str, entities: tuple[str, ...]) -> int:
    """Return the bytes of a prompt's cache entry, the prompt itself included."""
    return sum(map(sys.getsizeof, (prompt, entities, *entities)))


def within_limits(
    entities: Sequence[str], max_entities: int, max_chars: int
) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Split the parser's entities into those within the limits and the others.

    Args:
        entities: in order.
        max_entities: how many to keep.
        max_chars: the longest entity to keep, in characters.

    Returns:
        The entities to keep, and the others, each with the reason.

    >>> within_limits(["dog", "sofa", "cat"], max_entities=1, max_chars=3)
    (('dog',), [('sofa', 'longer than 3 characters'), ('cat', 'over the limit of 1 entities')])
    """
    short = [entity for entity in entities if len(entity) <= max_chars]
    long = [(entity, f"longer than {max_chars} characters") for entity in entities if len(entity) > max_chars]
    beyond = [(entity, f"over the limit of {max_entities} entities") for entity in short[max_entities:]]
    return tuple(short[:max_entities]), [*long, *beyond]


class ParserDeployment:
    """Serves the language model.

    Args:
        config: the whole configuration.
        load: loads the model; tests pass a fake.
    """

    def __init__(self, config: AppConfig, load: Callable[[AppConfig], Parser] = load_parser) -> None:
        give_back_free_memory()
        self._args = config
        self._config = config
        self._user_config = UserConfig("ParserDeployment", ParserSettings)
        self._metrics = Metrics()
        self._replies = replies_of(load(config), config.batching.max_prompts, self._metrics)
        self._filter = EntityFilter.of(config)
        self._parsed: CachedWork[tuple[str, ...]] = step_cache(
            "prompt", config.cache.prompt_bytes, entry_bytes, metrics=self._metrics
        )

    def reconfigure(self, user_config: object) -> None:
        """Apply a new filter and batch size without a restart; UserConfig describes what happens to wrong ones."""
        self._user_config.take(user_config, self._apply)

    def _apply(self, settings: ParserSettings) -> None:
        self._config = settings.apply_to(self._args)
        self._filter = EntityFilter.of(self._config)
        self._replies.limit_batches(self._config.batching.max_prompts)

    def check_health(self) -> None:
        """Raise RuntimeError if the replica's own model keeps failing. Serve calls this and replaces the replica."""
        self._replies.check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the work of the model, or of the calls to its server. Serve calls this for autoscaling."""
        return self._replies.work()

    async def model_name(self) -> str:
        """Return the model's configured name. An answer means that the model is ready.

        Raises:
            GensegError: the model is on a server that does not answer.
        """
        await self._replies.check()
        return self._config.models.text_parser.model_name

    async def parse(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float, contextual_images: int | None = None
    ) -> ParsedPrompt | GensegError:
        """List the entities of a prompt.

        Args:
            prompt: not empty.
            max_entities: how many entities to keep; the others go to `dropped`.
            request_id: for the logs.
            timeout_s: seconds until the request's deadline.
            contextual_images: how many the request has, if it wants a verdict. The answer then says how many of each
                entity the prompt asks for, and also has the entities that the prompt excludes. None for no verdict.

        Returns:
            The filtered entities and the name of this replica's model; or an error, which is returned and not raised.
        """
        try:
            async with asyncio.timeout(timeout_s):
                entities = await self._parsed.get(prompt, lambda: self._parse(prompt))
                # In a thread, because long prompts take a tenth of a second.
                return await asyncio.to_thread(self._read, prompt, entities, max_entities, contextual_images)
        except TimeoutError:
            return DeadlineExceeded("the deadline passed before the prompt was parsed")
        except GensegError as error:
            return error
        except Exception:
            logger.exception("request %s: the prompt could not be parsed", request_id)
            return InternalError("the prompt could not be parsed")

    def _read(
        self, prompt: str, entities: Sequence[str], max_entities: int, contextual_images: int | None
    ) -> ParsedPrompt:
        """Remove references to images from the entities, filter the entities, and count what the prompt asks for."""
        named, references = without_references(entities)
        found = self._filter.apply(named, prompt)
        dropped: list[tuple[str, str]] = [*references, *found.dropped]
        asked: tuple[Asked, ...] = ()
        names = found.kept
        if contextual_images is not None:
            asked = read_prompt(prompt, found.kept, contextual_images).asked
            names, more = self._filter_new([each.entity for each in asked], known=found.kept)
            dropped += more
        kept, over = within_limits(names, max_entities, self._config.limits.max_entity_chars)
        asked = tuple(each for each in asked if each.entity in kept)
        # Each replica has its own cache, so a cached reply comes from this model too.
        return ParsedPrompt(kept, (*dropped, *over), self._config.models.text_parser.model_name, asked)

    def _filter_new(self, names: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
        """Filter the entities that `read_prompt` added; the filter has already seen the known ones."""
        reasons = {name: self._filter.reason(name) for name in names if name not in known}
        kept = [name for name in names if reasons.get(name) is None]
        return kept, [(name, reason) for name, reason in reasons.items() if reason is not None]

    async def _parse(self, prompt: str) -> tuple[str, ...]:
        if has_only_tags(prompt):
            # A model would list words of the tags as entities. The filter adds the tags to `dropped`.
            return ()
        with self._metrics.stage("parse") as parse:
            parse.set(characters=len(prompt))
            entities = tuple(read_entities(await self._replies.reply(prompt, parse)))
            parse.set(entities=len(entities))
            return entities
