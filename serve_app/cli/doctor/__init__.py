"""`genseg doctor`: what this machine can run, and why not.

Facts are read in `probe`, `setup` and `ray_facts`; the checks on them are pure. `trial` runs the models.
"""

from __future__ import annotations

from serve_app.cli.doctor.command import add_arguments, run

__all__ = ["add_arguments", "run"]
