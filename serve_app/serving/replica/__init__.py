"""The work inside a replica: batches, caches, fair threads, health, metrics and traces."""
