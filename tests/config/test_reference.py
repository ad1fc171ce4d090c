"""The reference of the configuration keys says what the schema says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from serve_app.config import AppConfig, Section
from serve_app.config.engines import PARSERS, SEGMENTERS
from serve_app.config.files import check_file
from serve_app.config.findings import submodel
from serve_app.config.reference import anchor, reference
from serve_app.config.user_config import SETTINGS

PAGE = Path(__file__).parents[2] / "configs" / "REFERENCE.md"


def keys(model: type[Section] = AppConfig, path: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield every key of the schema as (section, name, field)."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{path}.{name}".removeprefix("."))
        else:
            yield path, name, field


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run: python -m serve_app.config.reference > configs/REFERENCE.md"
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


def test_a_key_without_a_description_is_refused() -> None:
    class Silent(Section):
        key: int = 1

    class Whole(Section):
        silent: Silent = Silent()

    with pytest.raises(ValueError, match=r"silent\.key has no description"):
        reference(Whole)


def test_a_vertical_bar_does_not_end_a_cell() -> None:
    class Whole(Section):
        key: int = Field(1, description="Either a|b or c.")

    row = next(line for line in reference(Whole).splitlines() if line.startswith("| `key` |"))
    assert re.split(r"(?<!\\)\|", row)[1:-1] == [" `key` ", " integer ", " `1` ", " `args:` ", " Either a\\|b or c. "]


def test_every_row_has_as_many_cells_as_its_head() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7}


def test_the_contents_lead_to_every_section() -> None:
    page = reference()
    headings = re.findall(r"^## `(.+)`$", page, re.MULTILINE)
    links = re.findall(r"^- \[`(.+)`\]\(#(.+)\)$", page, re.MULTILINE)
    assert links == [(heading, anchor(heading)) for heading in headings]
    assert {section for section, _, _ in keys()} <= set(headings)


def test_the_example_is_a_valid_serve_config(tmp_path: Path) -> None:
    example = re.search(r"^```yaml\n(.*?)^```$", reference(), re.MULTILINE | re.DOTALL)
    assert example is not None
    file = tmp_path / "example.yaml"
    file.write_text(example[1], encoding="utf-8")
    assert check_file(file) == []


def test_a_row_names_the_places_that_take_the_key() -> None:
    page = reference()
    for section, name, _ in keys():
        part = re.search(rf"^## `{re.escape(section)}`$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert part is not None
        row = next(line for line in part[1].splitlines() if line.startswith(f"| `{name}` |"))
        place = re.split(r"(?<!\\)\|", row)[4]
        for deployment, settings in SETTINGS.items():
            taken = settings.model_fields.get(section)
            kind = submodel(taken.annotation) if taken else None
            takes = kind is not None and name in kind.model_fields
            assert (deployment in place) == takes, f"{section}.{name}: {place}"
        assert ("`args:`" in place) == (f"{section}.{name}" != "auth.tokens")


@pytest.mark.parametrize(("section", "engines"), [("text_parser", PARSERS), ("segmentation", SEGMENTERS)])
def test_the_description_of_engine_names_every_engine(section: str, engines: dict[str, str]) -> None:
    field = next(field for path, name, field in keys() if (path, name) == (f"models.{section}", "engine"))
    assert all(f"`{engine}`" in (field.description or "") for engine in engines)
