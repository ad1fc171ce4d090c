"""Checks whether the replicas of a configuration fit on the nodes of the cluster. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.config.serve_config import items_at
from serve_app.config.strict_schema import value_at

ROUNDING = 1e-6
"""A need may exceed the resources by this much, because sums of shares such as 3 x 1/3 are rounded."""


@dataclass(frozen=True)
class Need:
    """The replicas that one deployment starts with.

    Attributes:
        deployment: its name.
        replicas: the number of replicas.
        per_node: largest number of replicas on one node; None means no limit.
        resources: what one replica needs, by Ray's names such as "CPU". A resource that is not listed is not needed.
    """

    deployment: str
    replicas: int
    per_node: int | None
    resources: Mapping[str, float]


def needs_of(application: object, defaults: Mapping[str, Mapping[str, float]]) -> list[Need]:
    """Return the replicas that our deployments start with.

    Args:
        application: an application of a checked Serve config; None without a Serve config.
        defaults: `num_cpus` and `num_gpus` of a replica, by deployment. They count only if the file has no
            `ray_actor_options` for the deployment.
    """
    given = {value_at(entry, ("name",)): entry for _, entry in items_at(application, "deployments")}
    return [_need(name, given.get(name), options) for name, options in defaults.items()]


def _need(name: str, entry: object, defaults: Mapping[str, float]) -> Need:
    options = value_at(entry, ("ray_actor_options",))
    options = options if isinstance(options, Mapping) else defaults
    others = options.get("resources")
    # Source: ray.serve.schema.RayActorOptionsSchema; its num_cpus is 1 by default.
    resources = {
        "CPU": _number(options.get("num_cpus"), 1.0),
        "GPU": _number(options.get("num_gpus"), 0.0),
        **(others if isinstance(others, Mapping) else {}),
    }
    per_node = value_at(entry, ("max_replicas_per_node",))
    return Need(
        name,
        _replicas(entry),
        per_node if isinstance(per_node, int) else None,
        {resource: amount for resource, amount in resources.items() if amount},
    )


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _replicas(entry: object) -> int:
    for key in (
        ("autoscaling_config", "initial_replicas"),
        ("autoscaling_config", "min_replicas"),
        ("num_replicas",),
    ):
        found = value_at(entry, key)
        if isinstance(found, int):
            return found
    return 1


def unplaceable(needs: Sequence[Need], nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Find replicas that will never fit on the nodes.

    Args:
        needs: what each deployment needs.
        nodes: total resources of each node, whether free or in use.

    Returns:
        A line for the user about the first fault; None if no fault was found, which does not prove that all replicas
        fit.
    """
    for need in needs:
        if fault := _too_large_for_a_node(need, nodes) or _too_many_for_the_nodes(need, nodes):
            return fault
    for resource in dict.fromkeys(resource for need in needs for resource in need.resources):
        wanted = sum(need.replicas * need.resources.get(resource, 0) for need in needs)
        available = sum(node.get(resource, 0) for node in nodes)
        if wanted > available + ROUNDING:
            return f"the replicas together ask for {wanted:g} {resource}, but there is only {available:g} here"
    return None


def _too_large_for_a_node(need: Need, nodes: Sequence[Mapping[str, float]]) -> str | None:
    if not need.replicas:
        return None
    for resource, amount in need.resources.items():
        most = max((node.get(resource, 0) for node in nodes), default=0)
        if amount > most + ROUNDING:
            lacking = f"there is no {resource} here" if not most else f"no node has more than {most:g}"
            return f"{need.deployment} asks for {amount:g} {resource} per replica, but {lacking}"
    return None


def _too_many_for_the_nodes(need: Need, nodes: Sequence[Mapping[str, float]]) -> str | None:
    bound = need.replicas if need.per_node is None else need.per_node
    fitting = [
        min([bound, *(int(node.get(name, 0) / amount + ROUNDING) for name, amount in need.resources.items())])
        for node in nodes
    ]
    if sum(fitting) >= need.replicas:
        return None
    count = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"
    unfit = f"{need.deployment}: {need.replicas} replicas do not fit on {count}"
    if need.per_node is not None and need.per_node * len(nodes) < need.replicas:
        return f"{unfit} with at most {need.per_node} per node (max_replicas_per_node)"
    each = ", ".join(f"{amount:g} {name}" for name, amount in need.resources.items())
    return f"{unfit}; each asks for {each}, so at most {sum(fitting)} fit"
