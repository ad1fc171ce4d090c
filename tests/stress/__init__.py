"""Long runs against a real service: `make chaos`, `make overload`, `make soak`. Not part of `make test`."""
