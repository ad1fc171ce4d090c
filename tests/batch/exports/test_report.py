"""The HTML report, parsed as HTML: its texts are right, and nothing in it runs a script or loads a file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from serve_app.batch.exports.reading import open_results
from serve_app.batch.exports.report import write_report
from serve_app.batch.output import OutputError
from tests.batch.exports.folder import ColouredPictures, export, jobs_of


class Page(HTMLParser):
    """Collects the texts, the tags with their attributes, and the rows of the tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.words.append(data)
        if {"td", "th"} & {*self._open}:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attributes[name] or "" for each, attributes in self.tags if each == tag and name in attributes]


def report(results: Path, folder: Path, pictures: ColouredPictures | None = None, most: int = 200) -> Page:
    path = folder / "report.html"
    write_report(path, open_results(results), pictures, most)
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_needs_nothing_from_elsewhere_and_runs_nothing(results: Path, tmp_path: Path) -> None:
    page = report(results, tmp_path, ColouredPictures())
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert {source[:22] for source in page.attributes("img", "src")} == {"data:image/jpeg;base64"}
    assert all(link.startswith("#") for link in page.attributes("a", "href"))
    assert {*page.attributes("a", "href")} == {f"#{name}" for name in page.attributes("article", "id")}
    policy = page.attributes("meta", "content")[0]
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in policy
    assert "url(" not in style[1]


def test_the_report_says_rates_jobs_reasons_and_failures(results: Path, tmp_path: Path) -> None:
    page = report(results, tmp_path, ColouredPictures())
    assert "3 jobs, 6 pictures, 12 objects, 1 job failed" in page.text
    assert ["all", "3", "1", "-", "-", "-", "-"] in page.rows
    assert ["two", "1", "1", "-", "-", "-", "-"] in page.rows
    assert ["ring", "1 of 1", "1 of 1", "2"] in page.rows
    assert ["dog", "2 of 2", "1 of 1", "6"] in page.rows  # the image that failed does not count
    assert ["dog", "at least 1", "-", "could not tell", '"dog"'] in page.rows
    assert ["empty", "1 (0.90)", "1 (0.90)"] in page.rows
    assert ["3", "-", "could not tell", "generated_image: <i>failed</i>"] in page.rows
    assert ["fails", "timeout", "took too long"] in page.rows
    assert "failed: <b>" in page.text


def test_entities_that_were_looked_for_most_come_first(results: Path, tmp_path: Path) -> None:
    rows = report(results, tmp_path).rows
    start = rows.index(["entity", "contextual", "generated", "objects"]) + 1
    assert [name for name, *_ in rows[start : start + 6]] == ["dog", "ring", "parts", "nothing", "empty", "broken"]


def test_texts_of_callers_are_texts(results: Path, tmp_path: Path) -> None:
    document = json.loads(json.dumps(jobs_of(results)["both"].document))
    evil = "</style><script>alert(1)</script>&amp;\"'\u202e\x00\ud800"
    document["prompt"] = document["generated_image"]["path"] = evil
    document["entities"].append(evil)
    (tmp_path / "one.json").write_text(json.dumps({**document, "id": evil, "columns": {"group": evil}}))
    page = report(tmp_path / "one.json", tmp_path, ColouredPictures())
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("</style><script>alert(1)</script>&amp;\"'") == 7
    assert "\u202e" not in page.source
    assert "\x00" not in page.source


def test_a_picture_that_is_not_there_is_said_in_its_place(results: Path, tmp_path: Path) -> None:
    page = report(results, tmp_path, ColouredPictures("c.png"))
    assert page.text.count("No picture: <c.png> is gone") == 2
    assert len(page.attributes("img", "src")) == 4


def test_the_number_of_pictures_is_bounded(results: Path, tmp_path: Path) -> None:
    page = report(results, tmp_path, ColouredPictures(), 4)
    assert len(page.attributes("img", "src")) == 4
    assert page.text.count("Not shown: the report has at most 4 pictures.") == 2
    assert len(report(results, tmp_path, None).attributes("img", "src")) == 0


def test_the_command_draws_the_pictures_that_the_manifest_names(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.html"
    assert export(results, "html", path) == 0
    assert f"wrote {path}: 3 jobs, 6 pictures\n" in capsys.readouterr().err
    page = Page(path.read_text())
    pictures = page.attributes("img", "src")
    assert len(pictures) == 6
    assert all(base64.b64decode(each.partition(",")[2]).startswith(b"\xff\xd8\xff") for each in pictures)
    assert Counter(each.partition(":")[0] for each in page.attributes("img", "alt")) == {"ref 0": 3, "generated": 3}


def test_the_old_report_stays_where_the_new_one_cannot_be_written(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    document = jobs_of(results)["both"].document
    (tmp_path / "two.jsonl").write_text(json.dumps({**document, "id": "a"}) + "\n{}\n")
    with pytest.raises(OutputError, match=r"two.jsonl:2: is not a result document: prompt: Field required"):
        write_report(path, open_results(tmp_path / "two.jsonl"), None)
    assert path.read_text() == "old"
