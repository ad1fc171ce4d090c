"""Load drives the segmenter from one replica to four; without load it goes back to one."""

from __future__ import annotations

import time
from typing import Any

from tests.cluster import files, nodes
from tests.cluster.fakes import FakeModel
from tests.cluster.files import INGRESS, PARSER, SEGMENTER
from tests.cluster.load import Load, tally
from tests.cluster.nodes import Nodes
from tests.cluster.outcome import Outcome, nothing_lost

SLOW = FakeModel(delay_s=0.4, presence=0.9)
ONE_IMAGE = 64
"""Model-input pixels of one image of the fake: a pass holds one image, so a replica does 2.5 images a second."""
SCALING = {
    "min_replicas": 1,
    "max_replicas": 4,
    "upscale_delay_s": 1,
    "downscale_delay_s": 4,
    "metrics_interval_s": 1,
    "look_back_period_s": 3,
}
MANY, FEW = 8, 1
PAUSE_S = 2.0
"""Before a request of the few: without it one request after the other keeps a segmenter busy, which is much load."""


def application() -> dict[str, Any]:
    """configs/multi-gpu.yaml with one ingress and one parser, and its own autoscaling, without the delays."""
    app = files.sharing_gpus(files.application("multi-gpu", SLOW))
    app = files.at_the_entrance(files.fixed(app, **{PARSER: 1, INGRESS: 1}), nodes.ENTRANCE)
    batching = {"batching": {"max_pixels": ONE_IMAGE, "max_pairs": 32}}
    policy = files.deployments(app)[SEGMENTER]["autoscaling_config"]["policy"]
    return files.changed(app, SEGMENTER, autoscaling_config={**SCALING, "policy": policy}, user_config=batching)


def run(cluster: Nodes) -> Outcome:
    """Much load until there are four replicas, little until there is one, and no request may fail on the way."""
    cluster.grow_to(4)
    nodes.deploy(application())
    first = len(nodes.replicas(SEGMENTER))
    with Load(cluster.url, MANY, cluster.headers) as much:
        up_s = much.until(lambda: len(nodes.replicas(SEGMENTER)) == 4, 90)
        time.sleep(6)
        where = [*nodes.replicas(SEGMENTER).values()]
    with Load(cluster.url, FEW, cluster.headers, PAUSE_S) as little:
        down_s = little.until(
            lambda: [len(nodes.replicas(SEGMENTER, state)) for state in ("RUNNING", "STOPPING")] == [1, 0], 120
        )
    counts = tally(much.answers + little.answers)
    rates = rate_of(much, 0, 5), rate_of(much, -5, 0)
    nodes.delete()
    return Outcome(
        "scaling, 1 to 4 segmenters and back",
        {
            "4 replicas after s": up_s,
            "1 replica again after s": down_s,
            "requests/s, first and last 5 s of the load": rates,
            "load": counts,
        },
        {
            "it starts with one": first == 1,
            "load brings four, on four nodes": len(set(where)) == len(where) == 4,
            "without it one is left": down_s < float("inf"),
            **nothing_lost(counts),
        },
    )


def rate_of(load: Load, begin_s: float, end_s: float) -> float:
    """Answers per second in a stretch of a load, in seconds from its beginning or, negative, from its last answer."""
    ends = sorted(answer.sent + answer.seconds for answer in load.answers)
    start, last = min(answer.sent for answer in load.answers), ends[-1]
    low = start + begin_s if begin_s >= 0 else last + begin_s
    high = start + end_s if end_s > 0 else last + end_s
    return round(sum(low < end <= high for end in ends) / (high - low), 2)
