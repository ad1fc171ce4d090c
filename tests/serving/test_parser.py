"""The parser's deployment without a Ray cluster: a model in the replica compared with a model on a server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence

import pytest

from serve_app.config.models import ModelsConfig, TextParserModel
from serve_app.config.schema import AppConfig, BatchingConfig, EntityFilterConfig
from serve_app.errors import GensegError, Overloaded
from serve_app.models.array_decoding import array_schema
from serve_app.serving.autoscaling import CALLS_S, LEAST_S, MOST_S, QUEUED_S
from serve_app.serving.messages import ParsedPrompt
from serve_app.serving.parser import ParserDeployment
from serve_app.serving.replica.health import MAX_FAILURES


class Local:
    """Replies with the prompt itself and records the sizes of its batches; `broken` makes every batch fail."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.sizes: list[int] = []
        self.gate = threading.Event()

    def generate_each(self, prompts: Sequence[str]) -> Sequence[str | GensegError]:
        if self.broken:
            raise ValueError("broken")
        self.gate.wait(10)
        self.sizes.append(len(prompts))
        return [json.dumps([prompt]) for prompt in prompts]


class Says(Local):
    """Names the same entities whatever the prompt."""

    def __init__(self, *entities: str) -> None:
        super().__init__()
        self.entities = entities

    def generate_each(self, prompts: Sequence[str]) -> Sequence[str | GensegError]:
        return [json.dumps(self.entities) for _ in prompts]


class Remote:
    """A server that is always busy."""

    async def reply(self, _: str) -> str:
        raise Overloaded("busy")

    async def check(self) -> None:
        raise Overloaded("busy")


async def test_a_model_in_the_replica_that_keeps_failing_costs_the_replica() -> None:
    parser = ParserDeployment(AppConfig(), lambda _: Local(broken=True))
    for index in range(MAX_FAILURES):
        parser.check_health()
        assert isinstance(await parser.parse(f"dog {index}", 9, "request", 10), GensegError)
    with pytest.raises(RuntimeError, match="failed 3 times"):
        parser.check_health()
    assert await parser.model_name() == "embedded"


async def test_a_server_that_keeps_failing_costs_no_replica_and_is_not_ready() -> None:
    parser = ParserDeployment(AppConfig(), lambda _: Remote())
    for index in range(MAX_FAILURES + 1):
        assert isinstance(await parser.parse(f"dog {index}", 9, "request", 10), Overloaded)
    parser.check_health()
    with pytest.raises(Overloaded):
        await parser.model_name()


async def test_the_work_of_a_model_in_the_replica_is_that_of_its_passes() -> None:
    model = Local()
    parser = ParserDeployment(AppConfig(batching=BatchingConfig(max_prompts=2)), lambda _: model)
    assert await parser.record_autoscaling_stats() == {LEAST_S: 0, MOST_S: 0, QUEUED_S: 0}
    answers = [asyncio.ensure_future(parser.parse(f"dog {index}", 9, "request", 10)) for index in range(5)]
    await asyncio.sleep(0.1)
    model.gate.set()
    await asyncio.gather(*answers)
    done = await parser.record_autoscaling_stats()
    assert 0.04 < done[LEAST_S] < done[MOST_S], "the first pass held one prompt where two have room"
    assert done[QUEUED_S] == 0
    await asyncio.sleep(0.05)
    await parser.parse("dog 0", 9, "request", 10)
    assert await parser.record_autoscaling_stats() == done, "a prompt that is in the cache is no work"


async def test_the_work_of_a_model_on_a_server_is_its_calls() -> None:
    class Slow(Remote):
        async def reply(self, _: str) -> str:
            await asyncio.sleep(0.1)
            raise Overloaded("busy")

    parser = ParserDeployment(AppConfig(), lambda _: Slow())
    await asyncio.gather(*(parser.parse(f"dog {index}", 9, "request", 10) for index in range(3)))
    done = await parser.record_autoscaling_stats()
    assert done == {CALLS_S: pytest.approx(0.3, abs=0.1)}
    await asyncio.sleep(0.05)
    assert await parser.record_autoscaling_stats() == done


async def test_a_user_config_changes_the_batches_of_a_model_in_the_replica() -> None:
    model = Local()
    parser = ParserDeployment(AppConfig(batching=BatchingConfig(max_prompts=8)), lambda _: model)
    parser.reconfigure({"batching": {"max_prompts": 2}})
    answers = [asyncio.ensure_future(parser.parse(f"dog {index}", 9, "request", 10)) for index in range(5)]
    await asyncio.sleep(0.05)
    model.gate.set()
    assert all(isinstance(answer, ParsedPrompt) for answer in await asyncio.gather(*answers))
    assert sum(model.sizes) == 5
    assert max(model.sizes) == 2


async def test_entities_beyond_the_limit_are_dropped_with_the_reason_and_the_answer_names_its_model() -> None:
    model = Says("dog", "soft light", "cat", "DOG", "tree")
    config = AppConfig(models=ModelsConfig(text_parser=TextParserModel(model_name="some/reader")))
    parser = ParserDeployment(config, lambda _: model)
    for _ in range(2):
        assert await parser.parse("a prompt", 2, "request", 10) == ParsedPrompt(
            ("dog", "cat"), (("soft light", "lighting"), ("tree", "over the limit of 2 entities")), "some/reader"
        )


async def test_entities_over_the_limit_of_characters_are_dropped_with_the_reason_and_take_no_place() -> None:
    long = "a" * 257
    model = Says(long, "b" * 256, "cat")
    config = AppConfig(models=ModelsConfig(text_parser=TextParserModel(model_name="some/reader")))
    answer = await ParserDeployment(config, lambda _: model).parse("a prompt", 2, "request", 10)
    assert isinstance(answer, ParsedPrompt)
    assert answer.entities == ("b" * 256, "cat")
    assert answer.dropped == ((long, "longer than 256 characters"),)


@pytest.mark.parametrize(
    ("prompt", "dropped"),
    [
        ("--no text, a dog", (("--no text, a dog", "prompt tag"),)),
        ("<lora:x:1> BREAK", (("<lora:x:1>", "prompt tag"),)),
    ],
)
async def test_a_prompt_of_tags_alone_names_nothing_and_asks_no_model(
    prompt: str, dropped: tuple[tuple[str, str], ...]
) -> None:
    parser = ParserDeployment(AppConfig(), lambda _: Remote())
    assert await parser.parse(prompt, 9, "request", 10) == ParsedPrompt((), dropped, "embedded")


READER = AppConfig(models=ModelsConfig(text_parser=TextParserModel(model_name="some/reader")))
"""With a parser that may translate."""


def replying(*entities: str, config: AppConfig | None = None) -> ParserDeployment:
    """A parser whose model always names these entities."""
    return ParserDeployment(config or AppConfig(), lambda _: Says(*entities))


async def parsed(parser: ParserDeployment, prompt: str, most: int = 9, images: int | None = None) -> ParsedPrompt:
    answer = await parser.parse(prompt, most, "request", 10, images)
    assert isinstance(answer, ParsedPrompt)
    return answer


@pytest.mark.parametrize("images", [None, 2], ids=["without a verdict", "with a verdict"])
async def test_names_of_images_leave_the_entities(images: int | None) -> None:
    parser = replying("dog from image 1", "second image", "image 2's sofa", "Dog", "soft light")
    answer = await parsed(parser, "the dog from image 1 on image 2's sofa, second image, soft light", images=images)
    assert answer.entities == ("dog", "sofa")
    assert answer.dropped == (("second image", "image reference"), ("soft light", "lighting"))
    assert [(each.entity, each.sources) for each in answer.asked] == (
        [] if images is None else [("dog", (0,)), ("sofa", (1,))]
    )


async def test_what_the_prompt_excludes_is_looked_for_where_a_verdict_is_asked() -> None:
    prompt = "Two dogs on grass without any cats. Change the car to red"
    parser = replying("dogs", "grass", "car")
    assert (await parsed(parser, prompt)).entities == ("dogs", "grass", "car")
    answer = await parsed(parser, prompt, images=0)
    assert answer.entities == ("dogs", "grass", "red car", "cats")
    assert [(each.entity, each.asked, each.exact) for each in answer.asked] == [
        ("dogs", 2, True), ("grass", None, False), ("red car", 1, False), ("cats", 0, True),
    ]  # fmt: skip
    assert answer.asked[3].asked_as == "without any cats"
    assert (await parsed(parser, prompt)).entities == ("dogs", "grass", "car"), "the reply is cached, not the reading"


async def test_excluded_things_take_the_last_places_and_are_dropped_beyond_the_limit() -> None:
    answer = await parsed(replying("dog", "lawn"), "a dog on a lawn, no cats, no birds", 3, images=0)
    assert answer.entities == ("dog", "lawn", "cats")
    assert [each.entity for each in answer.asked] == ["dog", "lawn", "cats"]
    assert answer.dropped == (("birds", "over the limit of 3 entities"),)


async def test_what_the_configuration_excludes_is_not_looked_for_because_the_prompt_excludes_it() -> None:
    config = AppConfig(entity_filter=EntityFilterConfig(excluded_terms=["cat"]))
    answer = await parsed(replying("dog", config=config), "a dog, no cats, no birds", images=0)
    assert [each.entity for each in answer.asked] == ["dog", "birds"]
    assert (answer.entities, answer.dropped) == (("dog", "birds"), (("cats", "excluded by config"),))


@pytest.mark.parametrize(
    ("prompt", "entities", "asked"),
    [
        ("A dog in a garden, no tree", ["dog", "garden", "tree"], {"tree": 0}),
        ("A dog in a garden, no trees", ["dog", "garden", "tree"], {"tree": 0}),
        ("A beach without any people", ["beach", "people"], {"people": 0}),
        ("A beach without any people", ["beach", "person"], {"person": 0}),
        ("Replace the black cat with a white dog", ["black cat", "white dog"], {"black cat": 0, "white dog": 1}),
        ("A man with tea instead of coffee", ["man", "tea", "coffee"], {"tea": None, "coffee": 0}),
        ("A room with no chairs or plants", ["room", "chairs", "plants"], {"chairs": 0, "plants": 0}),
        ("A dog, no red hats", ["dog", "hats"], {"hats": 0}),
        ("Remove the people and the red cars from image 1", ["people", "red cars"], {"people": 0, "red cars": 0}),
        ("Change the car to red", ["red car"], {"red car": 1}),
    ],
)
async def test_a_model_that_lists_what_the_prompt_excludes_doubles_nothing(
    prompt: str, entities: list[str], asked: dict[str, int | None]
) -> None:
    parser = replying(*entities, config=READER)
    assert (await parsed(parser, prompt)).entities == tuple(entities)
    answer = await parsed(parser, prompt, images=1)
    assert [each.entity for each in answer.asked] == entities == [*answer.entities]
    assert {each.entity: each.asked for each in answer.asked if each.entity in asked} == asked
    assert answer.dropped == ()


async def test_entities_of_a_translated_prompt_are_asked_for_without_a_number() -> None:
    parser = replying("brown dogs", "red bench", config=READER)
    answer = await parsed(parser, "Zwei braune Hunde auf einer roten Bank", images=1)
    assert [(each.entity, each.asked, each.exact, each.asked_as, each.sources) for each in answer.asked] == [
        ("brown dogs", None, False, None, ()),
        ("red bench", None, False, None, ()),
    ]


async def test_what_a_reply_within_the_grammar_holds_beyond_the_limit_is_dropped_with_the_reason() -> None:
    items = array_schema(READER.limits)["maxItems"]
    assert isinstance(items, int)
    names = [f"chair{index}" for index in range(items)]
    answer = await parsed(replying(*names, config=READER), "chairs", READER.limits.max_entities)
    assert answer.entities == tuple(names[:32])
    assert answer.dropped == tuple((name, "over the limit of 32 entities") for name in names[32:])
    assert len(answer.dropped) == 32
