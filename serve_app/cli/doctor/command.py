"""`genseg doctor`: checks what this machine can run; with --load it compares the models with the plain loop."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from serve_app.cli.console import Progress
from serve_app.cli.doctor.check import Check, can_run
from serve_app.cli.doctor.report import Row, as_json, check_lines, conclusion, table_lines
from serve_app.cli.ending import print_out
from serve_app.cli.options import CommandError
from serve_app.cli.serve_address import DASHBOARD_PORT, DEFAULT_HOST, address, check_port
from serve_app.config.files import LoadedConfig, check_environment, check_file, load_file
from serve_app.config.schema import AppConfig

if TYPE_CHECKING:
    from serve_app.cli.doctor.setup import Setup

CONFIG_HELP = "Serve config or configuration file (YAML). Default: the embedded models."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument(
        "--load",
        action="store_true",
        help="Also load the models in this process, measure times and memory on the bundled images, and compare the "
        "objects with those of the plain loop, which calls the stock transformers model once for each image and "
        "phrase.",
    )
    parser.add_argument("--json", action="store_true", help="Print the report as JSON.")


def run(args: argparse.Namespace) -> int:
    """Print a line for each check.

    Returns:
        The exit code: 1 if the configuration (by default the embedded models) cannot run here.
    """
    progress = Progress(quiet=args.json)
    with progress.step("looking at this machine"):
        checks, loaded = examine(args.config)
    coloured = progress.takes_colours and sys.stdout is not None and sys.stdout.isatty()
    if not args.json:
        print_out("\n".join(check_lines(checks, coloured=coloured)))
    rows: list[Row] = []
    found: list[Check] = []
    if args.load and loaded is not None:
        found, rows = _load(loaded.app, progress)
        checks += found
    if args.json:
        print_out(as_json(checks, rows))
    else:
        last = conclusion(checks, args.config or "the embedded models")
        print_out("\n".join([*check_lines(found, coloured=coloured), *table_lines(rows), last]))
    return 0 if can_run(checks) else 1


def examine(path: str | None) -> tuple[list[Check], LoadedConfig | None]:
    """Check this machine, and whether it can run a configuration.

    Args:
        path: the configuration's file; None for the embedded models.

    Returns:
        The checks, and the configuration, which is None if its file has faults.
    """
    # Imported here, so that `--help` and a wrong flag do not wait for PyTorch.
    from serve_app.cli.doctor.kinds import find_shipped, kind_checks, shipped_checks
    from serve_app.cli.doctor.machine_checks import machine_checks
    from serve_app.cli.doctor.model_checks import model_checks
    from serve_app.cli.doctor.probe import read_machine
    from serve_app.cli.doctor.setup_checks import needs_gpu, setup_checks

    machine = read_machine(
        os.environ.get("OMP_NUM_THREADS"), cxx=os.environ.get("CXX"), ray_tmpdir=os.environ.get("RAY_TMPDIR")
    )
    problems = [] if path is None else check_file(path)
    if path is not None and problems:
        faults = [Check("file", "fault", "fail", problem.at(path)) for problem in problems]
        return [*faults, *machine_checks(machine)], None
    loaded = LoadedConfig(AppConfig(), None) if path is None else load_file(path)
    setup = _setup(loaded, path)
    checks = [*machine_checks(machine, needs_gpu=None if path is None else needs_gpu(setup))]
    checks += [*model_checks(machine, setup), *setup_checks(machine, setup)]
    if path is None:
        checks += [*shipped_checks(machine, find_shipped()), *kind_checks(machine)]
    else:
        checks.insert(0, Check("file", "faults", "ok", f"none in {path}"))
    return checks, loaded


def _setup(loaded: LoadedConfig, path: str | None) -> Setup:
    from serve_app.cli.doctor.ray_facts import read_ray
    from serve_app.cli.doctor.setup import Setup, read_models, server_fault

    ray, serve_address = read_ray(loaded)
    http_address = address(loaded, None)
    problems = [] if path is None else check_environment(path, os.environ)
    return Setup(
        config=loaded.app,
        models=read_models(loaded.app),
        ray=ray,
        address=http_address,
        busy=None if http_address == serve_address else _busy(*http_address),
        is_serves=http_address == serve_address,
        dashboard_busy=ray.address is None and _busy(DEFAULT_HOST, DASHBOARD_PORT) is not None,
        unset=tuple(problem.at(str(path)) for problem in problems),
        server_fault=server_fault(loaded.app),
    )


def _busy(host: str, port: int) -> str | None:
    """Return why a port cannot be used; None if it can."""
    try:
        check_port(host, port)
    except CommandError as error:
        return str(error).partition(";")[0]
    return None


def _load(config: AppConfig, progress: Progress) -> tuple[list[Check], list[Row]]:
    from serve_app.cli.doctor.samples import bundled
    from serve_app.cli.doctor.trial import try_models
    from serve_app.cli.doctor.trial_report import trial_checks, trial_rows

    trial = try_models(config, bundled(), progress.step)
    return [*trial_checks(trial)], trial_rows(trial)
