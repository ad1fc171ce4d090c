"""The engines by their names in the configuration, each with the function that loads it.

A new model is one module in `models` (see `models.interface` for what it must offer) and one line here. The functions
are named by their import paths, so that an engine's libraries are imported when it is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Mapping

PARSERS: Mapping[str, str] = {
    "transformers": "serve_app.models.qwen3_vl:load",
    "openai": "serve_app.models.openai_parser:load",
}
"""Values of `models.text_parser.engine`."""

SEGMENTERS: Mapping[str, str] = {
    "transformers": "serve_app.models.sam3:load",
}
"""Values of `models.segmentation.engine`."""

IDENTITY = "serve_app.models.identity:load"
"""Loads `models.identity`. There is one engine; which class it takes, the checkpoint says."""
