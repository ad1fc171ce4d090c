"""One output folder for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batch.exports.folder import run_batch


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `ROWS`, Parquet beside the JSONL."""
    return run_batch(tmp_path_factory.mktemp("batch"), "--format", "parquet")
