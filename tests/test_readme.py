"""The README describes the code as it is: the request, the limits, the manifest, the errors. No link is broken."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from serve_app import errors
from serve_app.batch.exports.formats import FORMATS
from serve_app.batch.row import Row
from serve_app.cli.commands import COMMANDS
from serve_app.config import AppConfig
from serve_app.schemas.requests import SegmentRequest, parse_request

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return the text below a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#+ )", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table, without its head."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def test_the_request_that_is_shown_has_every_field_and_is_taken() -> None:
    shown = re.search(r"```json\n(.*?)```", section("The request"), re.DOTALL)
    assert shown is not None
    body = json.loads(shown[1].replace("<base64 or data: URI>", "AAAA"))
    assert body.keys() == SegmentRequest.model_fields.keys()
    assert parse_request(body).thresholds == body["thresholds"]
    assert {cells[0].strip("`") for cells in rows(section("The request"))} == body.keys()


def test_every_key_of_the_limits_exists() -> None:
    for cells in rows(section("Limits")):
        found: object = AppConfig()
        for name in cells[2].strip("`").split("."):
            found = getattr(found, name)
        assert isinstance(found, int | float), cells[2]


def test_every_error_is_listed_with_its_status() -> None:
    listed = {
        (int(status), code)
        for cells in rows(section("Errors"))
        for status in re.findall(r"\d+", cells[0])
        for code in re.findall(r"`(\w+)`", cells[1])
    }
    raised = {
        (error.status, error.code)
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.GensegError) and error is not errors.GensegError
    }
    assert {code for _, code in raised} <= {code for _, code in listed}
    assert {each for each in raised if each[0] < 500} <= listed


def test_every_field_of_a_manifest_is_listed() -> None:
    listed = {name for cells in rows(section("The manifest")) for name in re.findall(r"`(\w+)`", cells[0])}
    assert listed == Row.model_fields.keys()


def test_every_command_is_named() -> None:
    assert [name for name in COMMANDS if f"genseg {name}" not in README] == []


def test_every_format_of_an_export_is_named() -> None:
    assert [name for name in FORMATS if f"`{name}`" not in README] == []


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "cluster/README.md",
    "cluster/SIZING.md",
    "configs/REFERENCE.md",
]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    here = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", here.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = here.parent / name if name else here
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
