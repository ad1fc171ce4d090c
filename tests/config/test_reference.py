"""The reference of the configuration keys says what the schema says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from serve_app.config import AppConfig, Section
from serve_app.config.reference import reference

PAGE = Path(__file__).parents[2] / "configs" / "README.md"


def keys(model: type[Section] = AppConfig, path: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield every key of the schema as (section, name, field)."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{path}.{name}".removeprefix("."))
        else:
            yield path, name, field


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run: python -m serve_app.config.reference > configs/README.md"
    )


@pytest.mark.parametrize(
    ("section", "name", "field"), [*keys()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_key_is_described_under_its_section(section: str, name: str, field: FieldInfo) -> None:
    assert field.description, f"{section}.{name} has no description"
    part = re.search(rf"^## `{re.escape(section)}`$(.*?)(?=^## |\Z)", reference(), re.MULTILINE | re.DOTALL)
    assert part is not None
    assert f"| `{name}` | " in part[1]
    assert field.description in part[1]
