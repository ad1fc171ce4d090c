"""What a verdict adds to pictures: one colour for an individual and its match, similarities, what is wrong. Pure."""

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
_MOST_VIEWS = 2  # of one individual, in one note


@dataclass(frozen=True)
class Marks:
    """What is drawn on one image besides masks, boxes and labels.

    Attributes:
        colours: by `object_id`; an object that is not here keeps its label's colour.
        notes: by `object_id`, what follows the object's name: several texts that may do, the best first.
        lines: what is wrong with this image, in words; empty where nothing is.
    """

    colours: Mapping[str, Rgb] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Individual:
    """One individual of a label: its views in the contextual images, and a colour if it has a match."""

    label: str
    views: tuple[ReferenceVerdictDict, ...]
    colour: Rgb | None

    @property
    def match(self) -> str | None:
        return self.views[0]["match"]  # as `status`, the same in each view


def marks_of(verdict: VerdictDict, role: Role, index: int) -> Marks:
    """Find out what a verdict says about one image.

    Notes and lines call a contextual image by its index, "ref 0".

    Args:
        verdict: of the whole request.
        role: of the image.
        index: of the image within its role, from 0.

    Returns:
        An individual and its match have one colour. No other individual has it, and no label, while there are no more
        than 32 of all these; then colours return.
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
    found: dict[tuple[str, int], list[ReferenceVerdictDict]] = {}
    for row in verdict["references"]:
        if row["object_id"] is not None and row["individual"] is not None:
            label = row["object_id"].rpartition("_")[0]
            found.setdefault((label, row["individual"]), []).append(row)
    places = itertools.count(len(verdict["entities"]))  # those before are the entities' own
    return [
        _Individual(label, tuple(rows), colour_at(next(places)) if rows[0]["match"] else None)
        for (label, _), rows in found.items()
    ]


def _match_notes(each: _Individual, of_label: Sequence[_Individual]) -> tuple[str, ...]:
    """Say of which reference a generated object is the match: "= ref 0 (0.83)", "unlike ref 0 (0.31)"."""
    relation = "unlike" if each.views[0]["status"] == "different" else "="
    similarity = max(view["similarity"] or 0.0 for view in each.views)
    crowd = Counter(view["image"] for other in of_label for view in other.views)
    views = sorted(each.views, key=lambda view: -(view["similarity"] or 0.0))[:_MOST_VIEWS]
    long = ", ".join(_place(view, named=crowd[view["image"]] > 1) for view in views)
    short = ", ".join(_place(view, named=False) for view in views)
    more = f" and {len(each.views) - len(views)} more" if len(each.views) > len(views) else ""
    return (
        f"{relation} {long}{more} ({similarity:.2f})",
        f"{relation} {short} ({similarity:.2f})",
        f"{relation} ({similarity:.2f})",
    )


def _place(view: ReferenceVerdictDict, *, named: bool) -> str:
    return f"ref {view['image']} {view['object_id']}" if named else f"ref {view['image']}"


def _view_notes(view: ReferenceVerdictDict, matched: int) -> tuple[str, ...]:
    """Say what became of an object of a contextual image, of whose label so many individuals have a match.

    "arrived (0.83)", "merged".
    """
    status = view["status"].replace("_", " ")
    if view["similarity"] is None:
        return (status,)
    partner = f" as {view['match']}" if matched > 1 and view["status"] == "arrived" else ""
    texts = (f"{status}{partner} ({view['similarity']:.2f})", f"{status} ({view['similarity']:.2f})")
    return tuple(dict.fromkeys(texts))


def _lines(verdict: VerdictDict, image: str) -> tuple[str, ...]:
    """The reasons that belong to an image; the generated image has them all. Then the objects that may be one thing."""
    return tuple(_CONTEXTUAL.sub(r"ref \1", line) for line in [*_reasons(verdict, image), *_overlaps(verdict, image)])


def _reasons(verdict: VerdictDict, image: str) -> Iterator[str]:
    for reason in verdict["reasons"]:
        if image == "generated_image":
            yield reason
        elif reason.startswith(f"{image}: "):  # about the image; what is about an object stands beside the object
            yield reason.removeprefix(f"{image}: ")


def _overlaps(verdict: VerdictDict, image: str) -> Iterator[str]:
    for overlap in verdict["overlaps"]:
        if overlap["image"] == image:
            first, second = overlap["objects"]
            yield f"{first} and {second} may be one thing"
