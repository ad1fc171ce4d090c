"""A small checkpoint, and a port at which nobody listens."""

from __future__ import annotations

import pytest

from tests.conftest import free_port
from tests.models.conftest import small_checkpoint

__all__ = ["small_checkpoint"]


@pytest.fixture
def unused_port() -> int:
    """A port at which nobody listens."""
    return free_port()
