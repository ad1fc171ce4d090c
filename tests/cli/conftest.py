"""The scripted service of the client's tests, for commands with `--url`."""

from __future__ import annotations

from tests.client.conftest import server, service

__all__ = ["server", "service"]
