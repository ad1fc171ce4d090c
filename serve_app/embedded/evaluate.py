"""Measures an embedded checkpoint: `python -m serve_app.embedded.evaluate segmenter|parser|identity [options]`.

`python -m serve_app.embedded.evaluate MODEL --help` lists the options of a model.
"""

import sys
from collections.abc import Sequence

from serve_app.embedded.train import dispatch


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate the named model.

    Args:
        argv: the command-line arguments; None means those of the process.

    Returns:
        The exit status.
    """
    return dispatch("evaluate", "evaluation", sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
