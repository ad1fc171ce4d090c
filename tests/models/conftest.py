from __future__ import annotations

from pathlib import Path

import pytest

from tests.models import small_segmenter


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small segmenter with random weights."""
    return small_segmenter.make(tmp_path_factory.mktemp("segmenter"))
