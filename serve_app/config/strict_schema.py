"""Checks a document against another library's pydantic model in strict mode, and reports the path of every fault.

Knows neither files nor YAML nor Ray.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.config.findings import Finding, Path, children, finding_of


def strict_findings(model: type[BaseModel], document: object, known: Iterable[Finding] = ()) -> list[Finding]:
    """Return the faults that a model finds in a document and that are not yet known.

    One fault can hide others: a validator that fails stops the check, or raises an unexpected error. So the values with
    known faults are removed and the document is checked again, until nothing new is found.

    Args:
        model: the schema. Unknown keys are faults at any depth; "5" and `true` are not numbers.
        document: the document as read from YAML.
        known: the faults that were found before.
    """
    seen = {finding.path for finding in known}
    findings: list[Finding] = []
    while True:
        try:
            entries = _entries(model, _without(document, seen))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return findings or [Finding((), f"is refused by {model.__name__}: {error}")]
        new: dict[Path, Finding] = {}
        for entry in entries:
            place = _place_in(document, entry)
            left_out = entry["type"] == "missing" and any(path[: len(entry["loc"])] == entry["loc"] for path in seen)
            if place not in seen and not left_out:
                finding = finding_of(entry, model)
                new.setdefault(place, Finding(place, finding.message, finding.on_key))
        if not new:
            return findings
        findings += new.values()
        seen |= new.keys()


def value_at(document: object, path: Sequence[object]) -> object:
    """Return the value at a path of keys and indices; None if there is no such path.

    >>> value_at({"applications": [{"name": "segmentation"}]}, ("applications", 0, "name"))
    'segmentation'
    """
    for part in path:
        document = dict(children(document)).get(part)
    return document


def _entries(model: type[BaseModel], document: object) -> list[ErrorDetails]:
    """Return pydantic's errors.

    The document is checked as JSON, because strict mode accepts the names of enums only in JSON.
    """
    text = json.dumps(document, default=str)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.model_validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _without(document: object, paths: Iterable[Path]) -> object:
    """Copy a document without the values at some paths. If a path leads into a list, the whole list is removed."""
    left = copy.deepcopy(document)
    for path in paths:
        while path and isinstance(path[-1], int):
            path = path[:-1]
        section = value_at(left, path[:-1])
        if path and isinstance(section, dict):
            section.pop(path[-1], None)
    return left


def _place_in(document: object, entry: ErrorDetails) -> Path:
    """Return the path of a fault in a document.

    Pydantic's path also names the branches of a union, so it is cut at the first part that is not a key of the
    document. If a validator of a whole section failed, the path leads to the first key that its message names.
    """
    place: Path = ()
    for part in entry["loc"]:
        inner = dict(children(document))
        if part not in inner:
            return place
        place, document = (*place, part), inner[part]
    if entry["type"] == "value_error" and isinstance(document, dict):
        return next(((*place, word) for word in re.findall(r"\w+", entry["msg"]) if word in document), place)
    return place
