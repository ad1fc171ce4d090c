"""Checks values against pydantic models and describes each fault in plain words, with its path.

Knows neither files nor YAML nor Ray.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.schemas.nearest import hint as hint
from serve_app.schemas.nearest import nearest_of as nearest_of

Path = tuple[object, ...]
Model = TypeVar("Model", bound=BaseModel)
SHOWN_CHARS = 40
QUOTED = re.compile(r"'([^']*)'")
SECRET_KEYS = frozenset({"auth", "tokens", "ssl_keyfile_password"})

KINDS = {
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping of keys",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "mapping_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
BOUNDS = {
    "greater_than": ("must be greater than {gt}", "gt"),
    "greater_than_equal": ("must be at least {ge}", "ge"),
    "less_than": ("must be less than {lt}", "lt"),
    "less_than_equal": ("must be at most {le}", "le"),
}


@dataclass(frozen=True)
class Finding:
    """One fault of a configuration.

    Attributes:
        path: the keys and indices that lead to the fault.
        message: what is wrong.
        on_key: whether the key itself is wrong, not its value.
    """

    path: Path
    message: str
    on_key: bool = False

    def under(self, prefix: Path) -> Finding:
        """Return the same finding for a document that holds the examined value at `prefix`."""
        return Finding((*prefix, *self.path), self.message, self.on_key)


def place_of(path: Sequence[object]) -> str:
    """Write a path as text.

    >>> place_of(("applications", 0, "args"))
    'applications[0].args'
    """
    place = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            place += f"[{part}]"
        else:
            place += f".{part}" if place else str(part)
    return place


def validated(model: type[Model], value: object) -> tuple[Model | None, list[Finding]]:
    """Check a value against one of our models in strict mode, in which the text "0.5" is not a number.

    Args:
        model: the schema.
        value: the value from a file or a caller; sequences may be lists.

    Returns:
        An instance of the model and no findings, or None and every finding in no particular order.
    """
    findings = [Finding(path, f"must be a finite number, got {number}") for path, number in non_finite(value)]
    try:
        instance = model.model_validate(frozen(value), strict=True)
    except ValidationError as error:
        placed = {finding.path for finding in findings}
        found = (finding_of(entry, model) for entry in error.errors(include_url=False))
        return None, findings + [finding for finding in found if finding.path not in placed]
    return (None, findings) if findings else (instance, [])


def finding_of(entry: ErrorDetails, model: type[BaseModel]) -> Finding:
    """Convert one error of pydantic into a finding."""
    path, kind, given = tuple(entry["loc"]), entry["type"], entry.get("input")
    if kind == "extra_forbidden":
        return unknown_key(path, model)
    if kind == "invalid_key":
        return Finding(path, f"keys must be text, got {shown(given)}", on_key=True)
    if kind == "missing":
        return Finding(path[:-1], f"the key '{path[-1]}' is missing")
    if kind in BOUNDS:
        template, name = BOUNDS[kind]
        text = template.format(**{name: f"{entry['ctx'][name]:g}"})
    elif kind in {"literal_error", "enum"}:
        expected = str(entry["ctx"]["expected"])
        return Finding(path, f"must be {expected}, got {shown(given)}{hint(str(given), re.findall(QUOTED, expected))}")
    elif kind == "string_too_short":
        text = "must not be empty"
    elif kind == "value_error":
        return Finding(path, str(entry["msg"]).removeprefix("Value error, ").rstrip(".!"))
    else:
        text = KINDS.get(kind) or lowered(str(entry["msg"]))
    return Finding(path, f"{text}, got {shown(given)}" if not SECRET_KEYS.intersection(path) else text)


def unknown_key(path: Path, model: type[BaseModel]) -> Finding:
    """Report an unknown key, and suggest a similar key of its section, or the section to which the key belongs."""
    *parents, key = path
    neighbours = model_at(model, parents)
    known = list(neighbours.model_fields) if neighbours else []
    near = hint(str(key), known)
    places = {} if near else {place.rpartition(".")[2]: place for place in places_of(model)}
    if str(key) in places:
        home = places[str(key)].rpartition(".")[0]
        near = f"; it belongs under '{home}'" if home else "; it belongs at the top level"
    elif nearest := nearest_of(str(key), places):
        near = f"; did you mean '{places[nearest]}'?"
    elif not near:
        near = far_hint(str(key), known)
    return Finding(path, f"unknown key '{key}'{near}", on_key=True)


def far_hint(word: str, known: Iterable[str]) -> str:
    """Name the most similar known key, however different it is.

    Returns:
        "; the nearest known key is '…'", or "" if no known key shares a letter with the word.
    """

    def likeness(candidate: str) -> float:
        return difflib.SequenceMatcher(None, word.lower(), candidate.lower()).ratio()

    nearest = max(known, key=likeness, default=None)
    return f"; the nearest known key is '{nearest}'" if nearest and likeness(nearest) else ""


def model_at(model: type[BaseModel], path: Sequence[object]) -> type[BaseModel] | None:
    """Return the model that a path of keys leads to; None if it does not lead to a model."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        inner = submodel(field.annotation) if field else None
        if inner is None:
            return None
        model = inner
    return model


def submodel(annotation: object) -> type[BaseModel] | None:
    """Return the first pydantic model in an annotation such as `Model | None` or `list[Model]`; None without one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := submodel(part))), None)


def places_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the path of every key of a model as text, the inner keys first."""
    for name, field in model.model_fields.items():
        place = f"{prefix}.{name}" if prefix else name
        if inner := submodel(field.annotation):
            yield from places_of(inner, place)
        yield place


def non_finite(value: object, path: Path = ()) -> Iterator[tuple[Path, float]]:
    """Yield every infinity and NaN inside mappings and lists, because pydantic's bounds let some of them pass."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    for key, inner in children(value):
        yield from non_finite(inner, (*path, key))


def children(value: object) -> Iterable[tuple[object, object]]:
    """Return the (key, value) pairs of a mapping or the (index, value) pairs of a list; nothing for other values."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list | tuple):
        return enumerate(value)
    return ()


def frozen(value: object) -> object:
    """Return the value with tuples in place of lists, at any depth, as the frozen sections require."""
    if isinstance(value, Mapping):
        return {key: frozen(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(frozen(inner) for inner in value)
    return value


def shown(value: object) -> str:
    """Describe a value for a message: short values as in YAML, long ones cut, mappings and lists by their kind."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def lowered(text: str) -> str:
    """Write a library's message so that it can follow a place and a colon: lower case first, no full stop."""
    return text[:1].lower() + text[1:].rstrip(".!")
