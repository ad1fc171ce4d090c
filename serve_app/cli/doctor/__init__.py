"""`genseg doctor`: says what this machine can run, and why not.

`probe`, `setup` and `ray_facts` read facts. The checks of these facts are pure. `trial` runs the models.
"""

from __future__ import annotations

from serve_app.cli.doctor.command import add_arguments, run

__all__ = ["add_arguments", "run"]
