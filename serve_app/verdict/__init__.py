"""Judges whether the things that a prompt asks for are in the generated image. Pure: no models, no Ray, no pixels.

`evidence` defines the input; `judge` returns the verdict.
"""
