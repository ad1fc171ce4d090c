"""New thresholds (`user_config`) and a new model (`args`) under load: no request is lost by either."""

from __future__ import annotations

import copy
import time
from typing import Any

from tests.cluster import files, nodes
from tests.cluster.fakes import FakeModel
from tests.cluster.files import INGRESS, NEW, OLD, PARSER, SEGMENTER
from tests.cluster.load import Answer, Load, tally
from tests.cluster.nodes import Nodes
from tests.cluster.outcome import Outcome, nothing_lost

NAMES = (INGRESS, PARSER, SEGMENTER)
THRESHOLDS = 0.5, 0.4


def application(threshold: float, model: FakeModel) -> dict[str, Any]:
    """configs/multi-gpu.yaml at its smallest; a new replica finds room beside the old ones, since GPUs are shared."""
    app = files.application("multi-gpu", model)
    smallest = {name: files.deployments(app)[name]["autoscaling_config"]["min_replicas"] for name in NAMES}
    app = files.at_the_entrance(files.sharing_gpus(files.fixed(app, **smallest)), nodes.ENTRANCE)
    settings = copy.deepcopy(files.deployments(app)[INGRESS]["user_config"])
    settings["segmentation"]["threshold"] = threshold
    return files.changed(app, INGRESS, user_config=settings)


def ids() -> dict[str, set[str]]:
    """The running replicas of each deployment."""
    return {name: set(nodes.replicas(name)) for name in NAMES}


def thresholds(cluster: Nodes) -> Outcome:
    """Change the thresholds; leaves the application running for `model`."""
    cluster.grow_to(4)
    nodes.deploy(application(THRESHOLDS[0], OLD))
    before = ids()
    with Load(cluster.url, 6, cluster.headers) as load:
        time.sleep(4)
        nodes.send(application(THRESHOLDS[1], OLD))
        applied_s = load.until(lambda: all(each.threshold == THRESHOLDS[1] for each in load.answers[-12:]), 30)
        time.sleep(2)
    counts = tally(load.answers)
    seen = [each.threshold for each in load.answers]
    return Outcome(
        "rolling change of the thresholds (user_config)",
        {"applied everywhere after s": applied_s, "load": counts},
        {
            "first the old, then the new": {seen[0], seen[-1]} == set(THRESHOLDS) and set(seen) == set(THRESHOLDS),
            "no replica was restarted": ids() == before,
            **nothing_lost(counts),
        },
    )


def model(cluster: Nodes) -> Outcome:
    """Change the model of the application that `thresholds` left."""
    before = ids()
    with Load(cluster.url, 6, cluster.headers) as load:
        time.sleep(4)
        nodes.send(application(THRESHOLDS[1], NEW))
        fewest = dict.fromkeys(NAMES, 99)

        def rolled() -> bool:
            if not nodes.details():
                return False
            now = ids()
            fewest.update({name: min(fewest[name], len(now[name])) for name in NAMES})
            return nodes.is_running() and not any(now[name] & before[name] for name in NAMES)

        rolled_s = load.until(rolled, 240)
        time.sleep(3)
    counts = tally(load.answers)
    models = models_of(load.answers)
    after = ids()
    nodes.delete()
    return Outcome(
        "rolling change of the model (args)",
        {
            "rolled after s": rolled_s,
            "fewest replicas that ran": fewest,
            "answers by models": models,
            "load": counts,
        },
        {
            "every replica was replaced": all(after[name] and not after[name] & before[name] for name in NAMES),
            "first the old model, at the end the new": load.answers[0].presences == {OLD.presence}
            and load.answers[-1].presences == {NEW.presence},
            "0 documents of both models": models["both in one document"] == 0,
            "0 documents that name another model": models["another than meta says"] == 0,
            **nothing_lost(counts),
        },
    )


def models_of(answers: list[Answer]) -> dict[str, int]:
    """Count answers by the models that made them: one, or both in one document, or another than `meta` names."""
    kinds = {
        "old": [each for each in answers if each.presences == {OLD.presence}],
        "new": [each for each in answers if each.presences == {NEW.presence}],
        "both in one document": [each for each in answers if len(each.presences) > 1],
        "another than meta says": [
            each
            for each in answers
            if each.reported is not None and each.presences != {FakeModel.named(each.reported).presence}
        ],
    }
    return {kind: len(found) for kind, found in kinds.items()}
