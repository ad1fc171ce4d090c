"""Long runs against a real service on this machine: `make chaos`, `make overload`, `make soak`. Not part of `make test`."""
