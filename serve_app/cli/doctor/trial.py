"""Loads the configured models in this process and measures them on the bundled images and prompts, without Ray.

The models are loaded one after the other, so that each is measured alone. Parser and segmenter are compared with the
plain loop, whose model of stock transformers is loaded after ours was released.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from serve_app.cli.doctor.samples import Samples
from serve_app.cli.doctor.segmenter_trial import SegmenterTrial, try_segmenter
from serve_app.config.schema import AppConfig
from serve_app.entities.chat import read_entities
from serve_app.errors import GensegError
from serve_app.models import device_memory, devices, hub, locations
from serve_app.models.checkpoints import explain, hide_loading_bar
from serve_app.models.interface import LocalParser, RemoteParser
from serve_app.models.plain_loop import PlainParser
from serve_app.models.registry import load_identity, load_parser

Result = TypeVar("Result")

Step = Callable[[str], AbstractContextManager[None]]
"""Reports a step while it runs."""


@dataclass(frozen=True)
class ParserTrial:
    """The measurements of the parser.

    Attributes:
        prompts: how many prompts were read.
        entities: how many entities were found in them.
        load_s: seconds of loading.
        prompt_s: seconds per prompt if prompts are parsed one by one.
        batch_s: seconds per prompt in a full batch; None for a parser on a server.
        peak_bytes: see device_memory.peak_bytes; None for a parser on a server.
        differing: how many prompts the plain loop reads differently; None for a parser on a server.
        exact: whether the model computes in float32, so that no prompt may differ.
        on_gpu: whether the parser is on a GPU of this machine.
    """

    prompts: int
    entities: int
    load_s: float
    prompt_s: float
    batch_s: float | None = None
    peak_bytes: int | None = None
    differing: int | None = None
    exact: bool = False
    on_gpu: bool = False


@dataclass(frozen=True)
class IdentityTrial:
    """The measurements of the identity model: seconds of loading, and seconds per object."""

    load_s: float
    object_s: float


@dataclass(frozen=True)
class Trial:
    """The measurements of each model, or a line that says why the model failed; None if there is no identity model."""

    parser: ParserTrial | str
    segmenter: SegmenterTrial | str
    identity: IdentityTrial | str | None


def try_models(config: AppConfig, samples: Samples, step: Step) -> Trial:
    """Load and measure each model of a configuration.

    Args:
        config: the configuration.
        samples: images and prompts.
        step: reports a step while it runs.
    """
    hide_loading_bar()
    models = config.models
    server = models.text_parser.engine == "openai"
    parser = _or_fault(
        None if server else ("parser", models.text_parser.model_name), lambda: _try_parser(config, samples, step)
    )
    segmenter = _or_fault(
        ("segmenter", models.segmentation.model_name), lambda: try_segmenter(config, samples.images, step)
    )
    name = models.identity_name
    identity = None if name is None else _or_fault(("identity", name), lambda: _try_identity(config, step))
    return Trial(parser, segmenter, identity)


def _or_fault(model: tuple[locations.Kind, str] | None, run: Callable[[], Result]) -> Result | str:
    """Run a trial, or return why it failed. Checks a hub name first, because loading fails only after a minute."""
    try:
        if model is not None and not Path(locations.resolve(model[1], model[0])).is_dir():
            hub.check_name(model[1])
        return run()
    except GensegError as error:
        return error.message


def _try_parser(config: AppConfig, samples: Samples, step: Step) -> ParserTrial:
    if config.models.text_parser.engine == "transformers":
        device_memory.start_peak(_device(config))
    started = time.perf_counter()
    with step("loading the parser"):
        parser = load_parser(config)
    load_s = time.perf_counter() - started
    if isinstance(parser, LocalParser):
        return _try_local(parser, load_s, config, samples, step)
    return _try_server(parser, load_s, samples, step)


def _try_server(parser: RemoteParser, load_s: float, samples: Samples, step: Step) -> ParserTrial:
    started = time.perf_counter()
    with step("asking the parser's server"):
        reply = asyncio.run(parser.reply(samples.prompts[0]))
    return ParserTrial(1, len(read_entities(reply)), load_s, time.perf_counter() - started)


def _try_local(parser: LocalParser, load_s: float, config: AppConfig, samples: Samples, step: Step) -> ParserTrial:
    model = config.models.text_parser
    device = _device(config)
    with step("reading prompts"):
        parser.generate_each(samples.prompts[:1])  # the first call includes PyTorch's one-time work
        started = time.perf_counter()
        replies = [reply for prompt in samples.prompts for reply in parser.generate_each([prompt])]
        prompt_s = (time.perf_counter() - started) / len(samples.prompts)
        batch = [samples.prompts[index % len(samples.prompts)] for index in range(config.batching.max_prompts)]
        started = time.perf_counter()
        parser.generate_each(batch)
        batch_s = (time.perf_counter() - started) / len(batch)
    peak = device_memory.peak_bytes(device)
    ours = [_entities(reply) for reply in replies]
    del parser
    device_memory.release(device)
    device_memory.lift_wall(device)
    dtype = devices.resolve_dtype(model.dtype, device)
    with step("reading prompts with the plain loop"), explain(f"{model.model_name}, in the plain loop"):
        plain = PlainParser.load(locations.resolve(model.model_name, "parser"), device, dtype, model.max_new_tokens)
        theirs = [_entities(plain.reply(prompt)) for prompt in samples.prompts]
    del plain
    device_memory.release(device)
    return ParserTrial(
        prompts=len(samples.prompts),
        entities=sum(map(len, ours)),
        load_s=load_s,
        prompt_s=prompt_s,
        batch_s=batch_s,
        peak_bytes=peak,
        differing=sum(one != other for one, other in zip(ours, theirs, strict=True)),
        exact=devices.is_exact(dtype),
        on_gpu=device.type == "cuda",
    )


def _device(config: AppConfig) -> Any:
    return devices.resolve_device(config.models.text_parser.device_map, config.device.cuda_device)


def _entities(reply: str | GensegError) -> list[str]:
    if isinstance(reply, GensegError):
        raise reply
    return read_entities(reply)


def _try_identity(config: AppConfig, step: Step) -> IdentityTrial:
    started = time.perf_counter()
    with step("loading the identity model"):
        model = load_identity(config)
    load_s = time.perf_counter() - started
    assert model is not None
    crops = [np.full((model.side, model.side, 3), 128, np.uint8)] * 4
    model.embed(crops)
    started = time.perf_counter()
    for embedding in model.embed(crops):
        if isinstance(embedding, GensegError):
            raise embedding
    return IdentityTrial(load_s, (time.perf_counter() - started) / len(crops))
