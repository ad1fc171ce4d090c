"""Several Ray nodes on this machine: placement, scaling, a lost node, rolling changes. Prints figures; 1 if any failed.

python -m tests.cluster [placement] [scaling] [node-loss] [rolling]      about five minutes for all of them
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable

from tests.cluster import node_loss, nodes, placement, rolling, scaling
from tests.cluster.nodes import Nodes
from tests.cluster.outcome import Outcome

Scenario = Callable[[Nodes], Outcome]
SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "placement": (placement.one_gpu, placement.multi_gpu),
    "scaling": (scaling.run,),
    "node-loss": (node_loss.run,),
    "rolling": (rolling.thresholds, rolling.model),
}


def run(cluster: Nodes, chosen: list[str]) -> bool:
    """Run scenarios one after the other; true if all passed."""
    passed = True
    for scenario in (each for name in chosen for each in SCENARIOS[name]):
        started = time.monotonic()
        outcome = scenario(cluster)
        print(f"{outcome}\n  took: {time.monotonic() - started:.0f} s\n", flush=True)
        passed &= outcome.passed
    return passed


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; all of them if none is named")
    chosen = parser.parse_args().scenarios or [*SCENARIOS]
    if unknown := sorted({*chosen} - {*SCENARIOS}):
        parser.error(f"unknown: {', '.join(unknown)}")
    # What configs/multi-gpu.yaml asks for, and Ray's settings that these runs cannot wait for. Nodes inherit them.
    # RAY_TMPDIR: without it this cluster would take the place of another one on this machine, for `address="auto"`.
    token = secrets.token_hex(8)
    folder = tempfile.TemporaryDirectory(prefix="genseg-", ignore_cleanup_errors=True)
    os.environ.update(
        RAY_TMPDIR=folder.name,
        GENSEG_TOKENS=token,
        RAY_USAGE_STATS_ENABLED="0",
        RAY_SERVE_SLOW_STARTUP_WARNING_S="5",
        RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S="5",
    )
    with folder, nodes.running(token) as cluster:
        return int(not run(cluster, chosen))


if __name__ == "__main__":
    sys.exit(main())
