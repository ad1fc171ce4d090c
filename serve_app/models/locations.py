"""Finds a checkpoint: turns a configured model name into a folder or a hub name.

Only this module of `models` contains the path of the checkpoints inside the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from serve_app.config.models import EMBEDDED
from serve_app.errors import CheckpointError

Kind = Literal["parser", "segmenter", "identity"]


def resolve(model_name: str, kind: Kind) -> str:
    """Turn a configured name into an argument for `from_pretrained`.

    Args:
        model_name: a hub name, a local folder, or `embedded`.
        kind: the embedded checkpoint that `embedded` means.

    Returns:
        A folder, or the hub name unchanged.

    Raises:
        CheckpointError: the name is written as a path and the folder does not exist, or the folder has no config.json.
    """
    if model_name == EMBEDDED:
        return str(Path(__file__).parent.parent / "embedded" / "checkpoints" / kind)
    folder = Path(model_name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"model {model_name}: the folder has no config.json; is the download complete?")
        return str(folder)
    if model_name.startswith(("/", "./", "../", "~")) or model_name.count("/") > 1:
        raise CheckpointError(f"model {model_name}: there is no such folder")
    return model_name
