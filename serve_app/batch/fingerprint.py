"""Records the settings and rows of the batch whose results a folder holds.

So a batch with other settings can be refused there. A row is recorded as two 64-bit digests: one of its id, and one of
its other fields. Its extra columns (see `row`) are not recorded.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.batch.whole_file import write_whole
from serve_app.config.models import AUTO, NONE, ModelsConfig, SegmentationModel

VERSION = 1
_SEGMENTER, _IDENTITY = "models.segmentation.model_name", "models.identity.model_name"
_JOB_FILE = "job.json"
_ROWS_FILE = "rows.bin"

Setting = str | float | list[str] | None
"""The value of a flag or of a key of the configuration."""


@dataclass
class Fingerprint:
    """The batch whose results a folder holds.

    Attributes:
        settings: values that influence the results, by the name of the flag or configuration key. If the batch used a
            running service, the service's configuration is not known, and the settings hold only flags.
        rows: the digest of each row, by the digest of its id.
        models: names of the models, from the first result; empty before it.
        identity: `model` and `threshold` of the identity model, from the first verdict; `model` is "none" if no objects
            were compared. Empty before the first verdict.
        manifest: absolute path of the last manifest; None if it came through a pipe, or if an earlier version wrote
            the folder.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Setting] = field(default_factory=dict)
    manifest: str | None = None

    def save(self, folder: Path) -> None:
        """Write the fingerprint into a folder.

        The file with the rows is written first. So if the job file exists, the rows do too.
        """
        numbers = array("Q", (number for pair in self.rows.items() for number in pair))
        if sys.byteorder == "big":
            numbers.byteswap()
        write_whole(folder / _ROWS_FILE, numbers.tobytes())
        self.save_job(folder)

    def save_job(self, folder: Path) -> None:
        """Write everything but the rows into a folder."""
        job = {
            "version": VERSION,
            "settings": self.settings,
            "models": self.models,
            "identity": self.identity,
            "manifest": self.manifest,
        }
        write_whole(folder / _JOB_FILE, json.dumps(job, indent=2).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Fingerprint | None:
        """Read the fingerprint of a folder; None if no batch has started there.

        Raises:
            ValueError: the files are damaged, or another version of this package wrote them.
        """
        if not (folder / _JOB_FILE).is_file():
            return None
        job = json.loads((folder / _JOB_FILE).read_bytes())
        if job.get("version") != VERSION:
            raise ValueError("written by another version of genseg")
        numbers = array("Q")
        numbers.frombytes((folder / _ROWS_FILE).read_bytes())
        if sys.byteorder == "big":
            numbers.byteswap()
        rows = dict(zip(numbers[::2], numbers[1::2], strict=True))
        return cls(job["settings"], rows, job["models"], job.get("identity", {}), job.get("manifest"))


def settings_difference(before: Fingerprint, now: Mapping[str, Setting], defaults: Mapping[str, Setting]) -> str | None:
    """Describe in words which settings differ from those of the folder; None if they are the same.

    Args:
        before: the fingerprint of the folder; its `settings` are empty if no batch ran there.
        now: settings of this run. If it uses a running service, the service's configuration is not in them.
        defaults: values of the settings that the folder does not record.
    """
    if not before.settings:
        return None
    recorded = {**_known_from_results(before, now), **before.settings}
    old, new = _with_auto_resolved({**defaults, **recorded}), _with_auto_resolved(now)
    flags = [name for name in {**before.settings, **now} if name.startswith("--")]
    parts = []
    for name in dict.fromkeys([*flags, *now]):
        if old.get(name) != new.get(name):
            unrecorded = name not in recorded and name in defaults
            note = " (the default, because the folder does not record it)" if unrecorded else ""
            parts.append(f"{_written(name, old.get(name))}{note}, but {_given(name, new.get(name))}")
    return "; ".join(parts) or None


def _written(name: str, value: Setting) -> str:
    """Say which setting a folder was written with.

    >>> _written("--verdict", None), _written("--threshold", 0.4), _written("segmentation.threshold", 0.4)
    ('without --verdict', 'with --threshold 0.4', 'with segmentation.threshold: 0.4')
    """
    if not name.startswith("--"):
        return f"with {name}: {_in_words(value)}"
    if value is None:
        return f"without {name}"
    if isinstance(value, bool):
        return f"with {name if value else _negated(name)}"
    return f"with {name} {_in_words(value)}"


def _given(name: str, value: Setting) -> str:
    """Say what the setting is in the command that finds such a folder.

    >>> _given("--verdict", True), _given("--verdict", None), _given("--threshold", 0.4)
    ('now it is given', 'now it is not given', 'now it is 0.4')
    """
    if not name.startswith("--"):
        return f"now it is {_in_words(value)}"
    if isinstance(value, bool):
        return "now it is given" if value else f"now {_negated(name)} is given"
    return "now it is not given" if value is None else f"now it is {_in_words(value)}"


def _negated(flag: str) -> str:
    return flag.replace("--", "--no-", 1)


def _in_words(value: Setting) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_auto_resolved(settings: Mapping[str, Setting]) -> Mapping[str, Setting]:
    """Replace the identity model `auto` by the model that it means. This depends on the segmenter's model."""
    if settings.get(_IDENTITY) != AUTO:
        return settings
    segmentation = SegmentationModel(model_name=str(settings[_SEGMENTER]))
    return {**settings, _IDENTITY: ModelsConfig(segmentation=segmentation).identity_name or NONE}


def _known_from_results(before: Fingerprint, now: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the settings that are known from the results, also if a running service made these."""
    known: dict[str, Setting] = {f"models.{part}.model_name": name for part, name in before.models.items()}
    if before.identity:
        known[_IDENTITY] = before.identity["model"]
        # If the new threshold is null, the model's own value counts, which only the first verdict shows. So it is not
        # compared here, but with that verdict; see OutputFolder.
        threshold = now.get("models.identity.threshold")
        known["models.identity.threshold"] = None if threshold is None else before.identity.get("threshold")
    return known
