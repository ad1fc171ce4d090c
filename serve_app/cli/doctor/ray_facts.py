"""Reads the facts about Ray: about the cluster that a command would join, or the Ray that it would start here."""

from __future__ import annotations

from dataclasses import replace

from serve_app.cli import ray_session
from serve_app.cli.console import Progress
from serve_app.cli.deploy import lacking_room
from serve_app.cli.doctor.setup import RayFacts
from serve_app.cli.options import CommandError
from serve_app.cli.ray_address import find_cluster
from serve_app.cli.serve import application_names
from serve_app.cli.serve_address import address_of_serve
from serve_app.config.files import LoadedConfig


def read_ray(loaded: LoadedConfig) -> tuple[RayFacts, tuple[str, int] | None]:
    """Read the facts about the Ray that would run a configuration. If a cluster runs, it is joined briefly.

    Args:
        loaded: the configuration.

    Returns:
        The facts; and host and port of the cluster's Serve, or None if Serve does not run.
    """
    ray_session.set_environment(**ray_session.QUIET)
    try:
        found = find_cluster(None)
        if found is None:
            return _facts(loaded, None, [ray_session.resources_of_this_machine()]), None
        ray_session.join(found, Progress(quiet=True), logs=False)
    except CommandError as error:
        return RayFacts(fault=str(error)), None
    try:
        serve_address = address_of_serve()
        facts = _facts(loaded, found, ray_session.resources_of_nodes())
        return replace(facts, served=_served(loaded) if serve_address else ()), serve_address
    finally:
        ray_session.leave()


def _served(loaded: LoadedConfig) -> tuple[str, ...]:
    from ray import serve

    return tuple(sorted({*application_names(loaded)} & {*serve.status().applications}))


def _facts(loaded: LoadedConfig, found: str | None, nodes: list[dict[str, float]]) -> RayFacts:
    return RayFacts(
        address=found,
        cpus=sum(node.get("CPU", 0) for node in nodes),
        gpus=sum(node.get("GPU", 0) for node in nodes),
        lacking=lacking_room(loaded.app, loaded.serve, nodes),
    )
