"""The tables of engines. Each maps a name in the configuration to the function that loads the model.

To add a model, write one module in `models` (`models.interface` says what it must offer) and add one line here. The
tables hold import paths instead of functions, so that an engine's libraries are imported only when it is loaded.
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
"""Loads `models.identity`. There is one engine; the checkpoint determines the model class."""
