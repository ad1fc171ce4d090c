"""Measures an embedded checkpoint: `python -m serve_app.embedded.evaluate segmenter|parser [options]`."""

import sys
from collections.abc import Sequence

from serve_app.embedded.train import dispatch


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate the named model.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit status.
    """
    return dispatch("evaluate", "evaluation", sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
