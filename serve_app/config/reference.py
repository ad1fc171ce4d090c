"""Writes the reference of all configuration keys, `configs/REFERENCE.md`, from the schema.

    python -m serve_app.config.reference > configs/REFERENCE.md

Names, types, ranges, defaults and descriptions come from `config.schema`. A test compares the page with the schema.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import get_args

from pydantic.json_schema import JsonSchemaValue

from serve_app.config.schema import AppConfig
from serve_app.config.user_config import SETTINGS
from serve_app.config.values import MIB, Section

HEADER = """\
# Configuration reference

A **Serve config** is a YAML file for Ray Serve, with the keys below in its `args:`. Use it with `genseg serve FILE`,
`serve deploy FILE`, `genseg run --config FILE` or `genseg batch --config FILE`. The commands of `genseg` also take a
file that holds nothing but the keys below, without `applications:` and `args:`. A key that is left out has its default.
The files beside this page are complete Serve configs. This is a short one:

```yaml
applications:
  - name: segmentation
    import_path: serve_app.app:build
    args:                                  # read when the replicas start
      models:
        text_parser: {model_name: Qwen/Qwen3-VL-4B-Instruct, device_map: cuda}
        segmentation: {model_name: facebook/sam3, device: cuda}
    deployments:
      - name: Ingress
        user_config:                       # may change while the replicas run
          segmentation: {threshold: 0.4}
          limits: {max_images: 8}
```

**`args:` or `user_config:`.** Every key except `auth.tokens` may stand in `args:`. A change there restarts all
replicas. Some keys may also stand in the `user_config:` of a deployment (`Ingress`, `ParserDeployment` or
`SegmenterDeployment`), as the column "where" says. Ray passes a change there to the running replicas within about a
second, and no request is lost. A section in a `user_config:` sets all keys of this section that are allowed there. If
it leaves out such a key, the key has its default, not the value of `args:`. Keys that are allowed only in `args:` keep
their values.

**Check a file** with `genseg check-config FILE`. It reports unknown keys, wrong types, numbers outside their range and
keys in the wrong place, each with its line. Ray itself silently ignores most unknown keys outside `args:` and
`user_config:`.

`python -m serve_app.config.reference` writes this page from the schema in `serve_app/config/`.
"""
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "under"}
"""Keywords of JSON Schema for numbers, and the words that the page uses for them."""
TABLE_HEAD = ("| key | type and range | default | where | what it does |", "| --- | --- | --- | --- | --- |")
BAR = "\\|"
"""A vertical bar inside a cell of a table."""
ONLY_USER_CONFIG = frozenset({"auth.tokens"})
"""Keys that `args:` of a Serve config must not hold; see config.auth."""


def reference(schema: type[Section] = AppConfig) -> str:
    """Return the whole page, as Markdown.

    Args:
        schema: the configuration that the page describes.

    Raises:
        ValueError: a key has no description.
    """
    contents = [f"- [`{path}`](#{anchor(path)})" for path in _paths(schema)]
    return "\n".join([HEADER, "## Sections\n", *contents, "", *_section(schema, "")])


def anchor(heading: str) -> str:
    """Return the fragment by which GitHub links to a heading.

    >>> anchor("models.text_parser")
    'modelstext_parser'
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _paths(model: type[Section], path: str = "") -> Iterator[str]:
    """Yield the path of every section inside a section, in the order of the page."""
    for name, inner in _inner_sections(model).items():
        below = f"{path}.{name}" if path else name
        yield below
        yield from _paths(inner, below)


def _inner_sections(model: type[Section]) -> dict[str, type[Section]]:
    """Return the sections inside a section, by their names."""
    fields = {name: field.annotation for name, field in model.model_fields.items()}
    return {name: kind for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _section(model: type[Section], path: str) -> Iterator[str]:
    """Yield the lines of a section: its heading, a table of its own keys, then the sections inside it."""
    if path:
        yield f"## `{path}`\n\n{_paragraphs(model.__doc__)}\n"
    schemas = model.model_json_schema()["properties"]
    inner = _inner_sections(model)
    takers = _takers(path)
    rows = []
    for name, field in model.model_fields.items():
        if name in inner:
            continue
        if not field.description:
            raise ValueError(f"{path}.{name} has no description")
        schema = schemas[name]
        cells = (f"`{name}`", _type(schema), _default(name, schema), _places(path, name, takers), field.description)
        rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    if rows:
        yield "\n".join([*TABLE_HEAD, *rows, ""])
    for name, section in inner.items():
        yield from _section(section, f"{path}.{name}" if path else name)


def _takers(path: str) -> dict[str, frozenset[str]]:
    """Return the keys of a section that each deployment's `user_config` may have, by deployment."""
    found = {}
    for deployment, settings in SETTINGS.items():
        for section in get_args(settings.model_fields[path].annotation) if path in settings.model_fields else ():
            if section is not NoneType:
                found[deployment] = frozenset(section.model_fields)
    return found


def _places(path: str, key: str, takers: Mapping[str, frozenset[str]]) -> str:
    """Name the parts of a Serve config in which a key is allowed."""
    names = [name for name, keys in takers.items() if key in keys]
    places = [] if f"{path}.{key}" in ONLY_USER_CONFIG else ["`args:`"]
    if names:
        places.append(f"`user_config:` of {' and '.join(names)}")
    return "; ".join(places)


def _paragraphs(docstring: str | None) -> str:
    """Return the paragraphs of a docstring, each on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (docstring or "").split("\n\n"))


def _default(name: str, schema: JsonSchemaValue) -> str:
    """Write a default; whole MiB are also written as such."""
    value = schema["default"]
    text = f"`{json.dumps(value)}`"
    return f"{text} ({value // MIB} MiB)" if name.endswith("_bytes") and value and value % MIB == 0 else text


def _number(value: float) -> str:
    """Write a bound without the decimal point of a whole number."""
    return str(int(value) if value == int(value) else value)


def _type(schema: JsonSchemaValue) -> str:
    """Describe in words which values a key may have.

    >>> _type({"type": "integer", "minimum": 1, "maximum": 10})
    'integer, at least 1 and at most 10'
    """
    if "anyOf" in schema:
        return "; or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}s"
    bounds = [f"{words} {_number(schema[key])}" for key, words in BOUNDS.items() if key in schema]
    return ", ".join([schema["type"], " and ".join(bounds)] if bounds else [schema["type"]])


if __name__ == "__main__":
    sys.stdout.write(reference())
