"""Ray places parser and segmenter on GPU fractions as configs/ says; a replica without room waits with a message."""

from __future__ import annotations

import time
from collections import Counter

from tests.cluster import files, nodes
from tests.cluster.files import INGRESS, PARSER, SEGMENTER
from tests.cluster.load import Load, tally
from tests.cluster.nodes import Nodes
from tests.cluster.outcome import Outcome, nothing_lost

SETTLE_S = 6
"""How long a replica that does not fit is watched; Serve's own word for it comes after RAY_SERVE_SLOW_STARTUP_WARNING_S
(5 s in these runs, Ray's default is 30 s)."""


def one_gpu(cluster: Nodes) -> Outcome:
    """configs/one-gpu.yaml on one GPU node; then a second segmenter that does not fit, until a node joins."""
    cluster.grow_to(1)
    (only,) = cluster.gpu_nodes
    app = files.application("one-gpu")
    start_s = nodes.deploy(app)
    placed = {name: list(nodes.replicas(name).values()) for name in (PARSER, SEGMENTER)}
    free = cluster.gpus_free(only)
    first = set(nodes.replicas(SEGMENTER))

    nodes.send(files.changed(app, SEGMENTER, num_replicas=2))
    with Load(cluster.url, 2, {}) as load:
        told_s = load.until(lambda: "to be scheduled" in nodes.deployment_status(SEGMENTER)[1], SETTLE_S * 5)
        time.sleep(SETTLE_S)
        status, message = nodes.deployment_status(SEGMENTER)
        state = nodes.application_status()
        running, waiting = nodes.replicas(SEGMENTER), nodes.replicas(SEGMENTER, "STARTING")
        cluster.grow_to(2)
        joined_s = load.until(nodes.is_running, nodes.START_TIMEOUT_S)
    counts = tally(load.answers)
    after = nodes.replicas(SEGMENTER)
    nodes.delete()
    return Outcome(
        "placement, configs/one-gpu.yaml",
        {
            "start_s": start_s,
            "GPU left on the node": free,
            "a second segmenter": {"application": state, "deployment": status, "told after s": told_s},
            "Serve's message": message,
            "placed after a node joined, s": joined_s,
            "load": counts,
        },
        {
            "parser (0.4) and segmenter (0.6) share the one GPU": placed == {PARSER: [only], SEGMENTER: [only]},
            "the GPU is full by Ray's books": abs(free) < 1e-6,
            "a segmenter that does not fit stays pending": list(waiting.values()) == [None],
            "and the one that runs stays": set(running) == first,
            "the status says that it waits, and for what": status == "UPSCALING" and '"GPU": 0.6' in message,
            "the application is not RUNNING meanwhile": state == "DEPLOYING",
            "it is placed when a node joins, and on that": len(after) == 2
            and set(after.values()) == {*cluster.gpu_nodes},
            **nothing_lost(counts),
        },
    )


def multi_gpu(cluster: Nodes) -> Outcome:
    """configs/multi-gpu.yaml at its smallest on four GPU nodes: a whole GPU for each replica of a model."""
    cluster.grow_to(4)
    app = files.application("multi-gpu")
    start_s = nodes.deploy(app)
    placed = {name: [*nodes.replicas(name).values()] for name in (PARSER, SEGMENTER, INGRESS)}
    on_gpus = Counter(placed[PARSER] + placed[SEGMENTER])
    with Load(cluster.url, 2, cluster.headers) as load:
        time.sleep(4)
    counts = tally(load.answers)
    nodes.delete()
    return Outcome(
        "placement, configs/multi-gpu.yaml",
        {"start_s": start_s, "replicas": {name: len(where) for name, where in placed.items()}, "load": counts},
        {
            "min_replicas of each run": all(len(where) == 2 for where in placed.values()),
            "each replica of a model has a GPU of its own": on_gpus == Counter(dict.fromkeys(cluster.gpu_nodes, 1)),
            "no two ingresses on one node": len(set(placed[INGRESS])) == 2,
            **nothing_lost(counts),
        },
    )
