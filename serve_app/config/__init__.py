"""The configuration: its schema, its files, and what is wrong in them."""

from __future__ import annotations

from serve_app.config.schema import AppConfig

__all__ = ["AppConfig"]
