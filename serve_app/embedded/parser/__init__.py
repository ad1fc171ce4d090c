"""Trains and evaluates the embedded parser, which lists the entities of a prompt."""
