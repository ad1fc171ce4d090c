"""`genseg doctor`: checks what this machine can run, and says what is missing.

`probe`, `setup` and `ray_facts` read facts. The modules `..._checks` judge these facts, and are pure. `trial` runs the
models, and compares them with the plain loop: the models of stock transformers, called once for each input.
"""

from __future__ import annotations

from serve_app.cli.doctor.command import add_arguments, run

__all__ = ["add_arguments", "run"]
