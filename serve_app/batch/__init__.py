"""Batches: read a manifest, segment its rows and write the results as shards. A stopped batch can be continued.

A batch is the work on one manifest and one output folder. It may take several runs of `genseg batch`. Only `service`
knows Ray. The other modules get the function that segments a row as an argument.
"""
