"""Reads what a prompt asks for: the number of each entity, exclusions, and the images that it names. Pure text."""

from __future__ import annotations

from serve_app.entities.mentions.bare_noun import bare_noun
from serve_app.entities.mentions.reading import Asked, Reading, read_named, read_prompt, without_references

__all__ = ["Asked", "Reading", "bare_noun", "read_named", "read_prompt", "without_references"]
