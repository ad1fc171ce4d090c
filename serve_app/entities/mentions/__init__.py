"""Reads what a prompt asks for: the number of each entity, exclusions, and the images that it names.

The steps, in order:

    module       | what it finds                                                 | example
    -------------+---------------------------------------------------------------+------------------------------
    tokens       | words, lettering (`quotes`), references (`image_references`)  | "image 1"
    noun_phrases | mentions of entities                                          | "the red sofa"
    quantities   | how many things a mention asks for                            | "at least 3 cups"
    stand_ins    | words that stand for a thing named before                     | "and the one from image 2"
    ties         | the images that a mention is tied to                          | "the dog from image 1"
    exclusions   | things that must not be there (`cues`, `replacing`, `items`)  | "no dogs", "remove the hat"
    recolouring  | things with a new look                                        | "change the car to red"
    reading      | runs the steps, and adds up the mentions of each entity       | "two dogs" and "a dog" are 3

In these modules, a mention is a noun phrase that names an entity, its head is its noun, and `place` is the index of a
token.
"""

from __future__ import annotations

from serve_app.entities.mentions.bare_noun import bare_noun
from serve_app.entities.mentions.reading import Asked, Reading, read_named, read_prompt, without_references

__all__ = ["Asked", "Reading", "bare_noun", "read_named", "read_prompt", "without_references"]
