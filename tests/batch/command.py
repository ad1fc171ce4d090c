"""Runs `genseg batch` with a fake segmenter in a separate process, which a test can kill and start again."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from serve_app.cli import batch
from tests.batch.dataset import FakeSegment, connecting


def parsed(*arguments: Any) -> argparse.Namespace:
    """Parse the command's own flags."""
    parser = argparse.ArgumentParser()
    batch.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


if __name__ == "__main__":
    pause_s, *rest = sys.argv[1:]
    sys.exit(batch.run_with(parsed(*rest), connecting(FakeSegment(float(pause_s)))))
