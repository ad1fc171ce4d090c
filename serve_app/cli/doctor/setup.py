"""What the doctor knows of a configuration: its models, where they are, the Ray that would run it, its port."""

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
"""How the names of the weights begin that are loaded of a checkpoint of SAM3's video model."""


@dataclass(frozen=True)
class Model:
    """One model of the configuration.

    Attributes:
        role: "parser", "segmenter" or "identity".
        name: as configured.
        device: as configured.
        dtype: in which its weights are loaded, as configured; those of the segmenter are loaded in float32.
        place: where its weights are: "embedded", "folder", "cache", "hub", or nowhere.
        fault: why it cannot be loaded, and what to do; None where nothing is known against it.
        parameters: how many weights are loaded; None until they are on this machine.
        hub: what the hub says of one that is not on this machine; None where it was not asked.
        fraction: `gpu_memory_fraction` of its process.
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
        address: of the cluster that is joined; None for a Ray of its own on this machine.
        fault: why there is none; None where there is.
        cpus: of all nodes.
        gpus: likewise.
        lacking: which replicas find no room; None where all do.
        served: which of the configuration's applications are served there already.
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
        config: of the graph.
        models: those that are loaded.
        ray: that would run it.
        address: host and port of the HTTP API.
        busy: why the port cannot be taken; None where it can.
        is_serves: the cluster's Serve listens at the address.
        dashboard_busy: whether something other than Ray listens on the port of Ray's dashboard.
        unset: environment variables that are needed and hold nothing usable, each as a line.
        server_fault: why the server of the engine `openai` does not answer; None where it does, or is not used.
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
    """Look for the models, on this machine and then on the hub.

    Args:
        config: of the graph.
        ask: asks the hub about a name that is not on this machine.
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
    with ThreadPoolExecutor(len(wanted)) as threads:  # a hub that does not answer costs its timeout once
        return tuple(threads.map(lambda model: _found(model, ask), wanted))


def server_fault(config: AppConfig) -> str | None:
    """Say why the parser's server does not answer; None where it does, or where the parser is no server."""
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
    # Not here, or downloaded in part: loading downloads the rest.
    answer = HubAnswer(hub.OFFLINE, reached=False) if hub.is_offline() else ask(model.name)
    return replace(model, place="hub", fault=answer.fault, hub=answer)


def _look_into(folder: Path, role: locations.Kind) -> tuple[str | None, int | None]:
    """Say what a checkpoint's folder lacks, and count the weights that are loaded of it."""
    try:
        if lacking := [*missing_files(folder, reads_text=role != "identity")]:
            return f"the checkpoint is incomplete: {', '.join(lacking[:3])} missing in {folder}", None
        return None, _parameters(folder)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"a file of {folder} is damaged or half-downloaded: {said}", None


def _parameters(folder: Path) -> int | None:
    """Count the weights from the heads of the safetensors files; None where there are none."""
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
        if not path.is_file():  # weights of another format
            return
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                size = 1
                for length in file.get_slice(name).get_shape():
                    size *= length
                yield name, size
