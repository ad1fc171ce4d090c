"""Dataset jobs: a manifest of jobs in, shards of result documents out; resumable at any moment.

Knows no Ray outside `service`: who segments is a parameter.
"""
