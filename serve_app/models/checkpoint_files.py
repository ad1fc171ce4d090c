"""Checks a checkpoint before its weights are read: the model type must be the right one, and no file may be missing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from transformers import PretrainedConfig

from serve_app.errors import CheckpointError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of a single weights file. Weights in several files have an index instead: the same name plus `.index.json`.
Source of these and the following names: transformers, which reads and writes them."""

TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Sets of tokenizer files; one set is enough."""

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""Names of a processor's file; one is enough."""


def check_before_loading(
    model_name: str, source: str, role: str, model_types: Collection[str], *, reads_text: bool = True
) -> str:
    """Refuse a checkpoint that cannot be loaded, before its weights are read or downloaded.

    Args:
        model_name: the name as configured, for the message.
        source: a folder or a hub name. From the hub, only the configuration is downloaded.
        role: what the checkpoint is for, such as "segmenter"; for the message.
        model_types: the values of `model_type` that the loader accepts.
        reads_text: whether the model needs a tokenizer.

    Returns:
        The checkpoint's `model_type`.

    Raises:
        CheckpointError: the model type is another one, or files are missing in the folder.
        OSError: the configuration cannot be read. `checkpoints.explain` turns this into a CheckpointError.
    """
    config, _ = PretrainedConfig.get_config_dict(source)
    if not config:
        raise CheckpointError(f"model {model_name}: the checkpoint is incomplete: config.json is missing")
    found, needed = config.get("model_type"), " or ".join(map(repr, model_types))
    if found not in model_types:
        is_of = f"it is a checkpoint of model_type {found!r}" if found else "its config.json has no model_type"
        raise CheckpointError(f"model {model_name}: {is_of}, but the {role} needs {needed}")
    if Path(source).is_dir():
        lacking = [*missing_files(Path(source), reads_text=reads_text)]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            raise CheckpointError(
                f"model {model_name}: the checkpoint is incomplete: the folder lacks {', '.join(lacking[:3])}{more}; "
                "download it again"
            )
    return str(found)


def missing_files(folder: Path, *, reads_text: bool = True) -> Iterator[str]:
    """Yield the names of the files that are missing in a checkpoint's folder.

    If one of several names would be enough, only the usual one is yielded.

    Args:
        folder: the checkpoint.
        reads_text: whether the model needs a tokenizer.

    Raises:
        ValueError: the index of the weights is not valid JSON.
    """
    if not any((folder / name).is_file() for name in WEIGHTS):
        indices = [folder / f"{name}.index.json" for name in WEIGHTS]
        index = next((path for path in indices if path.is_file()), None)
        parts = WEIGHTS[:1] if index is None else sorted({*json.loads(index.read_bytes())["weight_map"].values()})
        yield from (part for part in parts if not (folder / part).is_file())
    if reads_text and not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        yield TOKENIZERS[0][0]
    if not any((folder / name).is_file() for name in PROCESSORS):
        yield PROCESSORS[0]
