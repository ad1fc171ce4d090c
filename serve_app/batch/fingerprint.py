"""Records the settings and rows of an output folder's job, so that a different job cannot add its results there.

A row is recorded as two 64-bit digests: of its id, and of everything else.
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
    """The job whose results a folder holds.

    Attributes:
        settings: values that influence the results, by the name of the flag or configuration key. A job on a running
            service does not know the service's configuration.
        rows: digest of the row, by the digest of its id.
        models: names of the models, from the first result; empty before it.
        identity: `model` and `threshold` of the identity model, from the first verdict; `model` is "none" if no objects
            were compared. Empty before the first verdict.
        manifest: absolute path of the last job's manifest; None if it came through a pipe, or if the folder is from an
            earlier version.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Setting] = field(default_factory=dict)
    manifest: str | None = None

    def save(self, folder: Path) -> None:
        """Write it into a folder. The rows come first, so that a folder with a job file has them too."""
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
        """Read it from a folder; None if no job has begun there.

        Raises:
            ValueError: the files are damaged, or of another version of this package.
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
    """Describe in words which settings differ from those of the folder's last job; None if they are the same.

    Args:
        before: of the folder's last job; without settings if there was none.
        now: settings of this job. Settings of a running service are not in it and are not compared.
        defaults: values of the settings that the folder does not record.
    """
    if not before.settings:
        return None
    recorded = {**_told_by_results(before, now), **before.settings}
    was, comes = _meant({**defaults, **recorded}), _meant(now)
    flags = [name for name in {**before.settings, **now} if name.startswith("--")]
    parts = []
    for name in dict.fromkeys([*flags, *now]):
        if was.get(name) != comes.get(name):
            unrecorded = name not in recorded and name in defaults
            note = " (the default, because the folder does not record it)" if unrecorded else ""
            parts.append(f"{_written(name, was.get(name))}{note}, but {_given(name, comes.get(name))}")
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


def _meant(settings: Mapping[str, Setting]) -> Mapping[str, Setting]:
    """Return the settings with the identity model `auto` resolved, which depends on the segmenter's model."""
    if settings.get(_IDENTITY) != AUTO:
        return settings
    segmentation = SegmentationModel(model_name=str(settings[_SEGMENTER]))
    return {**settings, _IDENTITY: ModelsConfig(segmentation=segmentation).identity_name or NONE}


def _told_by_results(before: Fingerprint, now: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the settings that the results themselves tell, also if a running service made them."""
    told: dict[str, Setting] = {f"models.{part}.model_name": name for part, name in before.models.items()}
    if before.identity:
        told[_IDENTITY] = before.identity["model"]
        # If the configuration leaves the threshold to the model, the next verdict tells it; it is compared then.
        threshold = now.get("models.identity.threshold")
        told["models.identity.threshold"] = None if threshold is None else before.identity.get("threshold")
    return told
