"""Write the generated files: the RayService's serveConfigV2 from configs/, and the dashboard's JSON.

python cluster/generate.py            writes them
python cluster/generate.py --check    writes nothing; names the files that are out of date and exits with 1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also when run from elsewhere
from dashboard import dashboard

ROOT = Path(__file__).parent.parent
BEGIN = "  # BEGIN generated"
END = "  # END generated"
SERVE_CONFIGS = {Path("cluster/kuberay/rayservice.yaml"): Path("configs/multi-gpu.yaml")}
DASHBOARD = Path("cluster/monitoring/dashboard.json")


def with_serve_config(manifest: str, config: str) -> str:
    """Put a Serve config into a manifest as `serveConfigV2`, between the two marker lines.

    Args:
        manifest: the text of a RayService, with a BEGIN and an END line.
        config: the text of the Serve config, comments and all.

    Raises:
        ValueError: the marker lines are not there, once each.
    """
    if manifest.count(BEGIN) != 1 or manifest.count(END) != 1:
        raise ValueError(f"the manifest needs one line '{BEGIN.strip()}' and one '{END.strip()}'")
    head, rest = manifest.split(BEGIN)
    marker = rest.partition("\n")[0]
    tail = rest.partition(END)[2]
    block = "".join(f"    {line}".rstrip() + "\n" for line in config.splitlines())
    return f"{head}{BEGIN}{marker}\n  serveConfigV2: |\n{block}{END}{tail}"


def generated(root: Path) -> dict[Path, str]:
    """Return the text that each generated file should have, by its path below `root`."""
    texts = {
        manifest: with_serve_config((root / manifest).read_text(), (root / config).read_text())
        for manifest, config in SERVE_CONFIGS.items()
    }
    texts[DASHBOARD] = json.dumps(dashboard(), indent=1) + "\n"
    return texts


def stale(root: Path) -> list[Path]:
    """Return the generated files that are missing or have another text."""
    return [
        path
        for path, text in generated(root).items()
        if not (root / path).exists() or (root / path).read_text() != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(description="Write what cluster/ derives from configs/ and from dashboard.py.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is out of date")
    options = parser.parse_args(arguments)
    paths = stale(ROOT)
    for path in paths:
        if options.check:
            print(f"{path} is out of date: run `python cluster/generate.py`", file=sys.stderr)
        else:
            (ROOT / path).write_text(generated(ROOT)[path])
            print(f"wrote {path}")
    return 1 if paths and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
