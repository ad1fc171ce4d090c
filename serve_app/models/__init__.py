"""The models, with plain Python interfaces. Uses torch and transformers, but not Ray or the wire format."""
