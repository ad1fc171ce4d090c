"""Turns a verdict into marks for pictures: colours of matched individuals, similarities, and reasons."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from serve_app.images.palette import Rgb, colour_at
from serve_app.schemas.dicts import ReferenceVerdictDict, VerdictDict
from serve_app.schemas.events import Role

_CONTEXTUAL = re.compile(r"\bcontextual_images\[(\d+)\]")
_MAX_VIEWS = 2  # views of an individual that a note names


@dataclass(frozen=True)
class Marks:
    """What a verdict adds to the drawing of one image.

    Attributes:
        colours: colours by `object_id`. An object that is not listed keeps its label's colour.
        notes: by `object_id`, alternative texts to show after the object's name, the best and longest first.
        lines: what is wrong with this image, in words; empty if nothing is.
    """

    colours: Mapping[str, Rgb] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Individual:
    """An individual of a label: its views in the contextual images, and a colour if it has a match."""

    label: str
    views: tuple[ReferenceVerdictDict, ...]
    colour: Rgb | None

    @property
    def match(self) -> str | None:
        return self.views[0]["match"]  # the views share `match` and `status`


def marks_of(verdict: VerdictDict, role: Role, index: int) -> Marks:
    """Return the marks of a verdict for one image.

    Notes and lines name a contextual image by its index: "ref 0".

    Args:
        verdict: the verdict of the whole request.
        role: the image's role.
        index: the image's index within its role, from 0.

    Returns:
        The marks. An individual and its match have the same colour. Up to a total of 32, no other individual and no
        label has that colour; after that, colours repeat.
    """
    individuals = _individuals(verdict)
    of_label: dict[str, list[_Individual]] = {}
    for each in individuals:
        of_label.setdefault(each.label, []).append(each)
    if role == "contextual":
        return _marks_of_reference(of_label, index, _lines(verdict, f"contextual_images[{index}]"))
    unwanted = [row for row in verdict["entities"] if row["status"] == "unwanted"]
    return Marks(
        {each.match: each.colour for each in individuals if each.match and each.colour},
        {
            **{each.match: _match_notes(each, of_label[each.label]) for each in individuals if each.match},
            **{name: ("not wanted",) for row in unwanted for name in row["objects"]},
        },
        _lines(verdict, "generated_image"),
    )


def _marks_of_reference(of_label: Mapping[str, Sequence[_Individual]], index: int, lines: tuple[str, ...]) -> Marks:
    colours, notes = {}, {}
    for individuals in of_label.values():
        matched = sum(each.match is not None for each in individuals)
        for each in individuals:
            for view in each.views:
                if view["image"] == index and view["object_id"] is not None:
                    notes[view["object_id"]] = _view_notes(view, matched)
                    if each.colour is not None:
                        colours[view["object_id"]] = each.colour
    return Marks(colours, notes, lines)


def _individuals(verdict: VerdictDict) -> list[_Individual]:
    rows_of: dict[tuple[str, int], list[ReferenceVerdictDict]] = {}
    for row in verdict["references"]:
        if row["object_id"] is not None and row["individual"] is not None:
            label = row["object_id"].rpartition("_")[0]
            rows_of.setdefault((label, row["individual"]), []).append(row)
    colour_indices = itertools.count(len(verdict["entities"]))  # those before belong to the entities
    return [
        _Individual(label, tuple(rows), colour_at(next(colour_indices)) if rows[0]["match"] else None)
        for (label, _), rows in rows_of.items()
    ]


def _match_notes(each: _Individual, of_label: Sequence[_Individual]) -> tuple[str, ...]:
    """Return the notes of a generated object that is an individual's match: "= ref 0 (0.83)", "unlike ref 0 (0.31)"."""
    relation = "unlike" if each.views[0]["status"] == "different" else "="
    similarity = max(view["similarity"] or 0.0 for view in each.views)
    crowd = Counter(view["image"] for other in of_label for view in other.views)
    views = sorted(each.views, key=lambda view: -(view["similarity"] or 0.0))[:_MAX_VIEWS]
    long = ", ".join(_name(view, named=crowd[view["image"]] > 1) for view in views)
    short = ", ".join(_name(view, named=False) for view in views)
    more = f" and {len(each.views) - len(views)} more" if len(each.views) > len(views) else ""
    return (
        f"{relation} {long}{more} ({similarity:.2f})",
        f"{relation} {short} ({similarity:.2f})",
        f"{relation} ({similarity:.2f})",
    )


def _name(view: ReferenceVerdictDict, *, named: bool) -> str:
    return f"ref {view['image']} {view['object_id']}" if named else f"ref {view['image']}"


def _view_notes(view: ReferenceVerdictDict, matched: int) -> tuple[str, ...]:
    """Return the notes of an object of a contextual image: "arrived (0.83)", "merged".

    Args:
        view: its row in the verdict.
        matched: how many individuals of its label have a match. If several have one, the note names the match.
    """
    status = view["status"].replace("_", " ")
    if view["similarity"] is None:
        return (status,)
    partner = f" as {view['match']}" if matched > 1 and view["status"] == "arrived" else ""
    texts = (f"{status}{partner} ({view['similarity']:.2f})", f"{status} ({view['similarity']:.2f})")
    return tuple(dict.fromkeys(texts))


def _lines(verdict: VerdictDict, image: str) -> tuple[str, ...]:
    """Return an image's reasons (all of them for the generated image), then its pairs of overlapping objects."""
    return tuple(_CONTEXTUAL.sub(r"ref \1", line) for line in [*_reasons(verdict, image), *_overlaps(verdict, image)])


def _reasons(verdict: VerdictDict, image: str) -> Iterator[str]:
    for reason in verdict["reasons"]:
        if image == "generated_image":
            yield reason
        elif reason.startswith(f"{image}: "):  # about the image; a reason about an object is the object's note
            yield reason.removeprefix(f"{image}: ")


def _overlaps(verdict: VerdictDict, image: str) -> Iterator[str]:
    for overlap in verdict["overlaps"]:
        if overlap["image"] == image:
            first, second = overlap["objects"]
            yield f"{first} and {second} may be one thing"
