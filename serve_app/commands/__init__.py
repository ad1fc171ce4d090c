"""The commands of `genseg`, one module each: `add_arguments` and `run`."""
