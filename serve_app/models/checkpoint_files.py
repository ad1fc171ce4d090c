"""Looks at a checkpoint before its weights are read: is it of the right model, and is it whole?"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from transformers import PretrainedConfig

from serve_app.errors import CheckpointError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Of one file each; one of several files has an index beside it, of the same name with `.index.json`."""

TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""Source: the names that transformers reads and writes."""


def check_before_loading(
    model_name: str, source: str, role: str, model_types: Collection[str], *, reads_text: bool = True
) -> str:
    """Refuse a checkpoint that cannot be loaded, before any of its weights are read or downloaded.

    Args:
        model_name: as configured, for the message.
        source: the folder, or the hub name, of which the configuration alone is downloaded.
        role: what the checkpoint is for, such as "segmenter".
        model_types: the values of `model_type` that the loader reads.
        reads_text: whether the model needs a tokenizer.

    Returns:
        The `model_type`.

    Raises:
        CheckpointError: it is of another model, or the folder lacks files.
        OSError: its configuration cannot be read; see `checkpoints.explain`.
    """
    config, _ = PretrainedConfig.get_config_dict(source)
    if not config:
        raise CheckpointError(f"model {model_name}: the checkpoint is incomplete: config.json is missing")
    found, needed = config.get("model_type"), " or ".join(map(repr, model_types))
    if found not in model_types:
        is_of = f"it is a checkpoint of model_type {found!r}" if found else "it names no model_type in its config.json"
        raise CheckpointError(f"model {model_name}: {is_of}, but the {role} needs {needed}")
    if Path(source).is_dir():
        lacking = [*missing_files(Path(source), reads_text=reads_text)]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            raise CheckpointError(
                f"model {model_name}: the checkpoint is incomplete: {', '.join(lacking[:3])}{more} missing in the "
                "folder; download it again"
            )
    return str(found)


def missing_files(folder: Path, *, reads_text: bool = True) -> Iterator[str]:
    """Name the files that a checkpoint's folder lacks; of files of which one is enough, the usual one.

    Raises:
        ValueError: the index of the weights is damaged.
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
