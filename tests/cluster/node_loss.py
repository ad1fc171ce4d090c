"""A node with a parser and a segmenter is lost under load: every request still gets the right answer."""

from __future__ import annotations

import time
from typing import Any

from tests.cluster import files, nodes
from tests.cluster.files import INGRESS, PARSER, SEGMENTER
from tests.cluster.load import Load, tally
from tests.cluster.nodes import Nodes
from tests.cluster.outcome import Outcome, nothing_lost

REPLICAS = {INGRESS: 2, PARSER: 2, SEGMENTER: 3}


def application() -> dict[str, Any]:
    """configs/multi-gpu.yaml with a fixed number of replicas; the ingresses are on the head, as its proxy is."""
    app = files.fixed(files.sharing_gpus(files.application("multi-gpu")), **REPLICAS)
    return files.at_the_entrance(app, nodes.ENTRANCE)


def run(cluster: Nodes) -> Outcome:
    """Kill a node in the middle of a load; a new one joins; wait until Serve has replaced what is lost; go on."""
    cluster.grow_to(4)
    nodes.deploy(application())
    parsers, segmenters = nodes.replicas(PARSER), nodes.replicas(SEGMENTER)
    victim = next(node for node in segmenters.values() if node in parsers.values())
    assert victim is not None
    before = {*parsers, *segmenters}
    gone = {id_ for id_, node in (*parsers.items(), *segmenters.items()) if node == victim}
    with Load(cluster.url, 8, cluster.headers) as load:
        time.sleep(5)
        killed = time.monotonic()
        cluster.kill(victim)
        cluster.grow_to(4)  # as an autoscaler or KubeRay does
        replaced_s = load.until(lambda: is_whole(gone), 120)
        time.sleep(5)
    after = {*nodes.replicas(PARSER), *nodes.replicas(SEGMENTER)}
    counts = tally(load.answers)
    under_way = [each for each in load.answers if each.sent < killed < each.sent + each.seconds]
    nodes.delete()
    return Outcome(
        "a node killed under load",
        {
            "replicas on it": len(gone),
            "requests under way when it died": len(under_way),
            "slowest of these, s": round(max((each.seconds for each in under_way), default=0.0), 2),
            "replaced after s": replaced_s,
            "load": counts,
        },
        {
            "requests were under way": len(under_way) > 0,
            "its replicas are gone and the others stayed": before - after == gone,
            "as many as before run again": len(after) == len(before),
            **nothing_lost(counts),
        },
    )


def is_whole(gone: set[str]) -> bool:
    """Whether as many replicas as wanted run, none of those that were lost among them."""
    found = {name: nodes.replicas(name) for name in (PARSER, SEGMENTER)}
    lost = gone & {id_ for ids in found.values() for id_ in ids}
    return not lost and all(len(ids) == REPLICAS[name] for name, ids in found.items())
