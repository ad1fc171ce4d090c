"""The checkpoints inside the package, and the code that trains and evaluates them."""
