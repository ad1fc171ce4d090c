"""The two models behind plain Python faces. Knows torch and transformers; knows neither Ray nor the wire."""
