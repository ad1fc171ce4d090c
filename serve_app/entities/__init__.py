"""Asks the language model for a prompt's entities, reads its reply and filters the list.

The modules need only text: no model, no files.
"""

from __future__ import annotations

from serve_app.entities.chat import INSTRUCTION, chat_messages, read_entities
from serve_app.entities.filter import EntityFilter
from serve_app.entities.phrases import normalise_entities
from serve_app.schemas.phrase_key import phrase_key, tidy

__all__ = ["INSTRUCTION", "EntityFilter", "chat_messages", "normalise_entities", "phrase_key", "read_entities", "tidy"]
