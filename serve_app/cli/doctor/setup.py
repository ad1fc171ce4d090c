"""Reads the facts about a configuration: its models and the parser's server. The checks judge them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from serve_app.config.models import EMBEDDED, Dtype
from serve_app.config.schema import AppConfig
from serve_app.errors import CheckpointError, GensegError
from serve_app.models import hub, locations
from serve_app.models.checkpoint_files import missing_files
from serve_app.models.hub import HubAnswer
from serve_app.models.interface import LocalParser, RemoteParser
from serve_app.models.registry import load_parser

SERVER_TIMEOUT_S = 4.0
DETECTOR = "detector_model."
"""Prefix of the weights that are loaded from a checkpoint of SAM3's video model."""


@dataclass(frozen=True)
class Model:
    """One model of the configuration.

    Attributes:
        role: "parser", "segmenter" or "identity".
        name: as configured.
        device: as configured.
        dtype: as configured. The segmenter's weights are loaded as float32 whatever it says.
        place: where the weights are: "embedded", "folder", "cache" or "hub"; "nowhere" if the name cannot be resolved.
        fault: why it cannot be loaded, and what to do; None if no fault is known.
        parameters: the number of weights that are loaded; None if it is not known, as for a model on the hub.
        hub: the hub's answer if the model is not on this machine, else None.
        fraction: `gpu_memory_fraction` of the model's process; None if it is not set.
    """

    role: locations.Kind
    name: str
    device: str
    dtype: Dtype
    place: str = "nowhere"
    fault: str | None = None
    parameters: int | None = None
    hub: HubAnswer | None = None
    fraction: float | None = None


@dataclass(frozen=True)
class RayFacts:
    """The Ray that would run the configuration.

    Attributes:
        address: HOST:PORT of the cluster that is joined; None for a private Ray on this machine.
        fault: why a cluster cannot be joined; None if there is no such fault.
        cpus: CPUs of all nodes.
        gpus: GPUs of all nodes.
        lacking: a line about resources that the replicas need and Ray does not have; None if it has them all.
        served: the configuration's applications that the cluster serves already.
    """

    address: str | None = None
    fault: str | None = None
    cpus: float = 0.0
    gpus: float = 0.0
    lacking: str | None = None
    served: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """A configuration on this machine.

    Attributes:
        config: the configuration.
        models: the models that it loads.
        ray: the Ray that would run it.
        address: host and port of the HTTP API.
        busy: why the port of `address` cannot be used; None if it can.
        is_serves: whether the cluster's Serve listens at `address`.
        dashboard_busy: whether something other than Ray listens on the port of Ray's dashboard.
        unset: a line for each environment variable that the configuration needs and that has no usable value.
        server_fault: why the server of the engine `openai` does not answer; None if it answers or is not used.
    """

    config: AppConfig
    models: tuple[Model, ...]
    ray: RayFacts
    address: tuple[str, int]
    busy: str | None = None
    is_serves: bool = False
    dashboard_busy: bool = False
    unset: tuple[str, ...] = ()
    server_fault: str | None = None


def read_models(config: AppConfig, ask: Callable[[str], HubAnswer] = hub.ask) -> tuple[Model, ...]:
    """Look for the configured models on this machine, then on the hub.

    Args:
        config: the configuration.
        ask: asks the hub about a model that is not on this machine.
    """
    parser, segmenter = config.models.text_parser, config.models.segmentation
    fraction = segmenter.gpu_memory_fraction
    wanted = [Model("segmenter", segmenter.model_name, segmenter.device, segmenter.dtype, fraction=fraction)]
    if parser.engine == "transformers":
        fraction = parser.gpu_memory_fraction
        wanted.insert(0, Model("parser", parser.model_name, parser.device_map, parser.dtype, fraction=fraction))
    if config.models.identity_name is not None:
        dtype = config.models.identity.dtype
        wanted.append(Model("identity", config.models.identity_name, segmenter.device, dtype))
    # In parallel, because a hub that does not answer costs a timeout for each model.
    with ThreadPoolExecutor(len(wanted)) as threads:
        return tuple(threads.map(lambda model: _found(model, ask), wanted))


def server_fault(config: AppConfig) -> str | None:
    """Return why the parser's server does not answer; None if it answers, or if the parser is a local model."""
    if config.models.text_parser.engine != "openai":
        return None
    try:
        parser = load_parser(config)
        if isinstance(parser, LocalParser):
            return None
        asyncio.run(_ask(parser))
    except GensegError as error:
        return error.message
    except TimeoutError:
        return f"does not answer within {SERVER_TIMEOUT_S:g} s"
    return None


async def _ask(parser: RemoteParser) -> None:
    async with asyncio.timeout(SERVER_TIMEOUT_S):
        await parser.check()


def _found(model: Model, ask: Callable[[str], HubAnswer]) -> Model:
    """Look for one model."""
    try:
        source = locations.resolve(model.name, model.role)
    except CheckpointError as error:
        return replace(model, fault=error.message.removeprefix(f"model {model.name}: "))
    cached = None if Path(source).is_dir() else hub.cached_folder(model.name)
    folder = Path(source) if Path(source).is_dir() else cached
    if folder is not None:
        fault, parameters = _look_into(folder, model.role)
        place = "cache" if cached else "embedded" if model.name == EMBEDDED else "folder"
        if fault is None or not cached:
            return replace(model, place=place, fault=fault, parameters=parameters)
    # Not here, or only a part was downloaded: loading downloads the rest.
    answer = HubAnswer(hub.OFFLINE, reached=False) if hub.is_offline() else ask(model.name)
    return replace(model, place="hub", fault=answer.fault, hub=answer)


def _look_into(folder: Path, role: locations.Kind) -> tuple[str | None, int | None]:
    """Return the fault of a checkpoint's folder, if any, and the number of weights that are loaded from it."""
    try:
        if lacking := [*missing_files(folder, reads_text=role != "identity")]:
            return f"the checkpoint is incomplete: {', '.join(lacking[:3])} missing in {folder}", None
        return None, _parameters(folder)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"a file of {folder} is damaged or half-downloaded: {said}", None


def _parameters(folder: Path) -> int | None:
    """Count the weights from the headers of the safetensors files; None if there are no such files."""
    sizes = dict(_sizes(folder))
    model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    if model_type == "sam3_video":
        sizes = {name: size for name, size in sizes.items() if name.startswith(DETECTOR)}
    return sum(sizes.values()) or None


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file() and not (folder / names[0]).is_file():
        names = sorted({*json.loads(index.read_text())["weight_map"].values()})
    for path in (folder / name for name in names):
        if not path.is_file():  # the weights are in another format
            return
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is not a mapping
                size = 1
                for length in file.get_slice(name).get_shape():
                    size *= length
                yield name, size
