"""The models behind plain Python interfaces. Knows torch and transformers; does not know Ray or the wire format."""
