"""Judges whether the things that a prompt asks for are in the generated image. Does not use models, Ray or pixels.

`evidence` defines the input; `judge` returns the verdict.
"""
