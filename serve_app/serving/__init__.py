"""The deployments of the Serve graph, and what they share: calls, fetching, documents, HTTP and replica work."""
