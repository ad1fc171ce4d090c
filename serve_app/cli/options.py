"""What several commands share: errors of the command line, the configuration with flags laid over it."""

from __future__ import annotations

import argparse
from typing import Any

from serve_app.config.files import app_config_from, load_file
from serve_app.config.schema import AppConfig


class CommandError(Exception):
    """A command cannot be carried out.

    Args:
        message: one line that names the file or flag.
        usage: the command line itself is wrong (exit code 2).
    """

    def __init__(self, message: str, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


def config_from(args: argparse.Namespace) -> AppConfig:
    """Read `--config` and lay the flags of `genseg run` over it.

    Raises:
        ConfigError: the file is wrong.
    """
    config = load_file(args.config).app if args.config else AppConfig()
    values = config.model_dump()
    models = values["models"]
    _put(models["text_parser"], model_name=args.text_model, dtype=args.dtype, device_map=args.device)
    _put(models["segmentation"], model_name=args.seg_model, dtype=args.dtype, device=args.device)
    return app_config_from(values)


def _put(section: dict[str, Any], **flags: Any) -> None:
    section.update({key: value for key, value in flags.items() if value is not None})
