"""What this machine can run, and why not. Facts are read in `probe` and `setup`; the checks on them are pure."""
