"""Judges whether the individuals in the contextual images are also in the generated image.

The first rule that applies gives an individual's status:

    rule                                                                              | status
    ----------------------------------------------------------------------------------+----------
    an image is missing or failed, the prompt's image shows none, or a mask is empty  | unknown
    the generated image has no object of the label                                    | missing
    it matches an object with at least the threshold's similarity                     | arrived
    it matches another object                                                         | different
    the prompt asks for a number, and that many individuals of the label have a match | not_asked
    no object is left for it                                                          | merged
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from serve_app.entities.mentions import Asked
from serve_app.schemas.dicts import ReferenceVerdictDict
from serve_app.schemas.verdict import ReferenceStatus
from serve_app.verdict.evidence import Counted, Picture
from serve_app.verdict.individuals import Match, View, individuals, match, similarities
from serve_app.verdict.numbers import shown


@dataclass
class References:
    """The result of comparing individuals.

    Attributes:
        rows: the verdict's `references`.
        individuals: status and similarity of each individual; the similarity is None without a match.
        remarks: sentences for the verdict's `reasons`.
    """

    rows: list[ReferenceVerdictDict] = field(default_factory=list)
    individuals: list[tuple[ReferenceStatus, float | None]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge_references(
    asked: Sequence[Asked], contextual: Sequence[Picture], generated: Picture | None, threshold: float, most: int
) -> References:
    """Judge the individuals of all entities that are compared.

    Args:
        asked: what the prompt asks for. If it ties any entity to images, only tied entities are compared, with those
            images. Otherwise every entity is compared with every contextual image.
        contextual: the contextual images in order.
        generated: the generated image; None if there is none.
        threshold: two objects with at least this cosine similarity are the same individual.
        most: the largest number of objects of a label and image that are compared; those with the best scores.
    """
    found = References()
    is_tied = _is_tied(asked)
    for each, sources in _compared(asked, len(contextual)):
        _Label(each, is_tied, threshold, most, found).judge(
            [(image, contextual[image]) for image in sources], generated
        )
    return found


def not_given(asked: Sequence[Asked]) -> list[str]:
    """Return a sentence for each image that the prompt names but the request lacks."""
    return [
        f"{each.entity}: the prompt names image {number}, which was not given"
        for each in asked
        for number in each.beyond
    ]


def compared_labels(asked: Sequence[Asked], contextual_images: int, image: int | None) -> list[str]:
    """Return the labels of an image whose objects are compared, so that they need embeddings.

    Args:
        asked: what the prompt asks for.
        contextual_images: the number of contextual images.
        image: index of a contextual image; None for the generated image.
    """
    return [
        each.entity
        for each, sources in _compared(asked, contextual_images)
        if (sources if image is None else image in sources)
    ]


def _is_tied(asked: Sequence[Asked]) -> bool:
    return any(each.sources or each.beyond for each in asked)


def _compared(asked: Sequence[Asked], contextual_images: int) -> Iterator[tuple[Asked, tuple[int, ...]]]:
    """Yield the entities that are compared, each with its contextual images."""
    is_tied = _is_tied(asked)
    for each in asked:
        if each.asked != 0 and (each.sources or each.beyond or not is_tied):
            yield each, each.sources if is_tied else tuple(range(contextual_images))


@dataclass
class _Label:
    """Judges the individuals of one entity, and adds the result to `found`."""

    asked: Asked
    is_tied: bool
    threshold: float
    most: int
    found: References

    def judge(self, sources: Sequence[tuple[int, Picture]], generated: Picture | None) -> None:
        """Add the rows, individuals and remarks of the entity; `sources` are its contextual images with their index."""
        views = [View(image, seen) for image, picture in sources for seen in self._best(image, picture)]
        candidates = self._best(None, generated) if views and generated is not None else []
        visible = [view for view in views if not view.seen.is_blank]
        rows = [self._blank(view.image, view.seen) for view in views if view.seen.is_blank]
        # If all generated objects of the label have empty masks, any of them may be any individual.
        is_blank = bool(candidates) and all(each.is_blank for each in candidates)
        if is_blank and visible:
            self.found.remarks.append(_empty("generated_image", candidates[0]))
        is_unknown = generated is None or generated.objects is None or is_blank
        for image, reason in self._unknown(sources, views, visible, is_unknown):
            rows.append(_row(image, None, None, None, None, None, "unknown"))
            self.found.individuals.append(("unknown", None))
            if reason:
                self.found.remarks.append(reason)
        if visible and not is_unknown:
            rows += self._match(visible, [each for each in candidates if not each.is_blank])
        self.found.rows += sorted(rows, key=lambda row: (row["image"] is None, row["image"] or 0))

    def _blank(self, image: int, seen: Counted) -> ReferenceVerdictDict:
        """Record that an object cannot be compared, because its mask is empty; return its row."""
        self.found.individuals.append(("unknown", None))
        self.found.remarks.append(_empty(f"contextual_images[{image}]", seen))
        return _row(image, seen.object_id, None, None, None, None, "unknown")

    def _match(self, views: Sequence[View], candidates: Sequence[Counted]) -> list[ReferenceVerdictDict]:
        matches = match(views, individuals(views, self.threshold), candidates)
        matched = sum(each.found is not None for each in matches)
        by_view = similarities([view.seen for view in views], candidates)
        rows: dict[int, ReferenceVerdictDict] = {}
        for number, each in enumerate(matches):
            status = self._status(each, matched, bool(candidates))
            self.found.individuals.append((status, each.similarity))
            for place in each.views:
                partner = None if each.found is None else candidates[each.found].object_id
                own = None if each.found is None else float(by_view[place, each.found])
                view = views[place]
                rows[place] = _row(view.image, view.seen.object_id, number, partner, own, each.margin, status)
        return [rows[place] for place in sorted(rows)]

    def _status(self, found: Match, matched: int, shows_label: bool) -> ReferenceStatus:
        if not shows_label:
            return "missing"
        if found.similarity is not None:
            return "arrived" if found.similarity >= self.threshold else "different"
        return "not_asked" if self.asked.asked is not None and matched >= self.asked.asked else "merged"

    def _best(self, image: int | None, picture: Picture) -> list[Counted]:
        objects = picture.of_label(self.asked.entity)
        if len(objects) > self.most:
            place = "generated_image" if image is None else f"contextual_images[{image}]"
            self.found.remarks.append(_left_out(self.asked.entity, place, len(objects) - self.most))
        return objects[: self.most]

    def _unknown(
        self, sources: Sequence[tuple[int, Picture]], views: Sequence[View], visible: Sequence[View], is_unknown: bool
    ) -> Iterator[tuple[int | None, str | None]]:
        """Yield the images for which the status is unknown, with a reason unless the entities' reasons say it."""
        entity = self.asked.entity
        showing, comparable = {view.image for view in views}, {view.image for view in visible}
        for image, picture in sources:
            place = f"contextual_images[{image}]"
            if picture.objects is None:
                yield image, f"{place}: segmentation failed, so {entity} cannot be compared"
            elif image not in showing and self.is_tied:
                yield image, f"{place}: no {entity} found, although the prompt takes it from this image"
            elif image in comparable and is_unknown:
                yield image, None
        yield from ((None, reason) for reason in not_given([self.asked]))


def _empty(place: str, seen: Counted) -> str:
    return f"{place} {seen.object_id}: its mask is empty, so it cannot be compared"


def _left_out(entity: str, place: str, count: int) -> str:
    return f"{entity}: the {count} objects of {place} with the lowest scores were not compared (max_identity_objects)"


def _row(
    image: int | None, object_id: str | None, individual: int | None, partner: str | None,
    similarity: float | None, margin: float | None, status: ReferenceStatus,
) -> ReferenceVerdictDict:  # fmt: skip
    return {
        "image": image, "object_id": object_id, "individual": individual, "match": partner,
        "similarity": None if similarity is None else shown(similarity),
        "margin": None if margin is None else shown(margin), "status": status,
    }  # fmt: skip
