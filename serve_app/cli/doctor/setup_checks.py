"""Checks what a configuration needs besides its models: devices, packages, Ray, ports and tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from serve_app.cli.doctor.check import Check
from serve_app.cli.doctor.machine import Machine
from serve_app.cli.doctor.setup import RayFacts, Setup
from serve_app.cli.serve_address import DASHBOARD_PORT
from serve_app.config.auth import api_key
from serve_app.config.devices import devices_of


def needs_gpu(setup: Setup) -> bool:
    """Return whether the configuration asks for a GPU, with device `cuda` or `cuda:N`."""
    return any(device.startswith("cuda") for _, device in devices_of(setup.config).values())


def setup_checks(machine: Machine, setup: Setup) -> Iterator[Check]:
    """Check what a configuration needs besides its models."""
    yield from _devices(machine, setup)
    yield from _packages(machine, setup)
    yield from _server(setup)
    yield _ray(setup.ray)
    yield _port(setup)
    if setup.dashboard_busy:
        found = f"port {DASHBOARD_PORT} of Ray's dashboard is in use, but no Ray runs here"
        todo = "`serve deploy` and `ray job submit` look for Ray there; `genseg serve` needs no dashboard"
        yield Check("service", "dashboard port", "warn", found, todo)
    for line in setup.unset:
        yield Check("service", "token", "fail", line, "set the variable where the service is started")


def _devices(machine: Machine, setup: Setup) -> Iterator[Check]:
    if machine.cuda.devices or not machine.cuda.has_nvidia:
        return
    for deployment, (_, device) in devices_of(setup.config).items():
        if device == "auto":
            found = f"{deployment} has device auto, and would run on the CPU although this machine has a GPU"
            yield Check(
                "GPU", "device", "warn", found, "see CUDA above; with device `cuda` the replica would not start"
            )


def _packages(machine: Machine, setup: Setup) -> Iterator[Check]:
    config = setup.config
    if config.device.use_flash_attention and not machine.versions.get("flash-attn"):
        found = "use_flash_attention is true, and the package flash-attn is missing"
        yield Check(
            "machine", "flash-attn", "warn", found, "install the package; without it PyTorch's own attention is used"
        )
    if config.models.text_parser.constrained_decoding and not machine.versions.get("xgrammar"):
        found = "constrained_decoding is true, and the package xgrammar is missing"
        yield Check("machine", "xgrammar", "fail", found, "pip install 'genseg[constrained]'")
    if config.models.segmentation.compile and (lacking := _lacking_for_compile(machine)):
        found = f"compile is true, but this machine has no {' and no '.join(lacking)}"
        yield Check(
            "machine", "compiler", "fail", found, f"install {', '.join(lacking.values())}, or set compile to false"
        )


def _lacking_for_compile(machine: Machine) -> dict[str, str]:
    """Return what torch.compile needs and this machine lacks, each with the package to install."""
    needed = {
        ("C compiler", "gcc"): machine.compiler is not None,
        ("C++ compiler", "g++"): machine.cxx_compiler is not None,
        ("Python.h", "Python's headers"): machine.python_headers,
    }
    return dict(name for name, there in needed.items() if not there)


def _server(setup: Setup) -> Iterator[Check]:
    parser = setup.config.models.text_parser
    if parser.engine != "openai":
        return
    key = parser.openai.api_key_env
    if key and not api_key(parser.openai):
        yield Check(
            "models",
            "parser's key",
            "fail",
            f"the environment variable {key} is not set",
            "set it where Ray is started",
        )
    name = parser.model_name
    if setup.server_fault is None:
        yield Check("models", "parser", "ok", f"{name} at {parser.openai.base_url} answers")
    else:
        yield Check(
            "models",
            "parser",
            "fail",
            f"{name} at {parser.openai.base_url}: {setup.server_fault}",
            "check base_url, and that the server runs",
        )


def _ray(ray: RayFacts) -> Check:
    if ray.fault is not None:
        return Check("Ray", "Ray", "fail", ray.fault, "start it, or unset RAY_ADDRESS to use a private Ray")
    place = f"the cluster at {ray.address}" if ray.address else "none runs here; `genseg serve` starts its own"
    found = f"{place}: {ray.cpus:g} CPU, {ray.gpus:g} GPU"
    if ray.lacking is None:
        return Check("Ray", "Ray", "ok", found)
    if ray.address is not None:  # a cluster may get more nodes
        return Check("Ray", "Ray", "warn", f"{found}; {ray.lacking}", "add nodes, or ask for less")
    return Check("Ray", "Ray", "fail", f"{found}; {ray.lacking}", "change num_cpus, num_gpus or replicas")


def _port(setup: Setup) -> Check:
    host, port = setup.address
    if setup.ray.served:
        found = f"{setup.ray.served[0]!r} is served already by the Serve that runs on this cluster"
        todo = "`genseg serve` does not replace it: stop it first, or update it with `serve deploy`"
        return Check("service", "port", "warn", found, todo)
    if setup.is_serves:
        return Check("service", "port", "ok", f"{port} on {host} is the port of the Serve that runs on this cluster")
    if setup.busy is None:
        return Check("service", "port", "ok", f"{port} on {host} is free")
    return Check("service", "port", "fail", setup.busy, "stop what listens there, or choose another with --port")
