"""Dataset jobs: read a manifest, segment its rows and write the results as shards. A stopped job can be continued.

Only `service` knows Ray. The other modules get the function that segments a row as an argument.
"""
