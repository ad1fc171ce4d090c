"""Judges whether the individuals in the contextual images are also in the generated image.

An individual is one particular thing (this dog, not any dog); several contextual images can show it. The first rule
that applies gives its status:

    rule                                                                                 | status
    -------------------------------------------------------------------------------------+----------
    the generated image is missing or failed; or a contextual image failed; or a named   |
    image is missing or does not show the entity; or the object's mask, or every mask of |
    the label in the generated image, is empty                                           | unknown
    the generated image has no object of the label                                       | missing
    it is matched with an object, and their similarity reaches the threshold             | arrived
    it is matched with an object, and their similarity is below the threshold            | different
    the prompt asks for a number, and that many individuals of the label have a match    | not_asked
    all objects of the label are matched with other individuals                          | merged
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
        individuals: one (status, similarity) for each individual, and one ("unknown", None) for each image or object
            that cannot be compared. The similarity is None without a match.
        remarks: sentences for the verdict's `reasons`.
    """

    rows: list[ReferenceVerdictDict] = field(default_factory=list)
    individuals: list[tuple[ReferenceStatus, float | None]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge_references(
    asked: Sequence[Asked], contextual: Sequence[Picture], generated: Picture | None, threshold: float, max_objects: int
) -> References:
    """Judge the individuals of each entity whose objects are compared.

    Args:
        asked: what the prompt asks for. If it ties an entity to an image ("the dog from image 1"), only tied entities
            are compared, each in its own images. Otherwise each entity is compared in all contextual images. Excluded
            entities are never compared.
        contextual: the contextual images in order.
        generated: the generated image; None if there is none.
        threshold: two objects with at least this cosine similarity are the same individual.
        max_objects: of one label in one image, at most this many objects are compared: those with the best scores.
    """
    result = References()
    is_tied = _is_tied(asked)
    for each, sources in _compared(asked, len(contextual)):
        _EntityJudge(each, is_tied, threshold, max_objects, result).judge(
            [(image, contextual[image]) for image in sources], generated
        )
    return result


def images_not_given(asked: Sequence[Asked]) -> list[str]:
    """Return a sentence for each image that the prompt names but the request lacks."""
    return [
        f"{each.entity}: the prompt names image {number}, which was not given"
        for each in asked
        for number in each.missing_images
    ]


def compared_labels(asked: Sequence[Asked], contextual_images: int, image: int | None) -> list[str]:
    """Return the labels whose objects in one image are compared. These objects need embeddings.

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
    """Tell whether the prompt ties any entity to a contextual image: "the dog from image 1"."""
    return any(each.sources or each.missing_images for each in asked)


def _compared(asked: Sequence[Asked], contextual_images: int) -> Iterator[tuple[Asked, tuple[int, ...]]]:
    """Yield each entity whose objects are compared, with the indices of its contextual images."""
    is_tied = _is_tied(asked)
    for each in asked:
        if each.asked != 0 and (each.sources or each.missing_images or not is_tied):
            yield each, each.sources if is_tied else tuple(range(contextual_images))


@dataclass
class _EntityJudge:
    """Judges the individuals of one entity, and adds them to `result`."""

    asked: Asked
    is_tied: bool
    threshold: float
    max_objects: int
    result: References

    def judge(self, sources: Sequence[tuple[int, Picture]], generated: Picture | None) -> None:
        """Add the entity's rows, individuals and remarks; `sources`: (index, picture) of its contextual images."""
        views = [View(image, seen) for image, picture in sources for seen in self._best(image, picture)]
        candidates = self._best(None, generated) if views and generated is not None else []
        visible = [view for view in views if not view.object.has_empty_mask]
        rows = [self._without_mask(view.image, view.object) for view in views if view.object.has_empty_mask]
        # If all generated objects of the label have empty masks, it is unknown which individuals they show.
        all_empty = bool(candidates) and all(each.has_empty_mask for each in candidates)
        if all_empty and visible:
            self.result.remarks.append(_empty("generated_image", candidates[0]))
        is_unknown = generated is None or generated.objects is None or all_empty
        for image, reason in self._unknown(sources, views, visible, is_unknown):
            rows.append(_row(image, None, None, None, None, None, "unknown"))
            self.result.individuals.append(("unknown", None))
            if reason:
                self.result.remarks.append(reason)
        if visible and not is_unknown:
            rows += self._match(visible, [each for each in candidates if not each.has_empty_mask])
        self.result.rows += sorted(rows, key=lambda row: (row["image"] is None, row["image"] or 0))

    def _without_mask(self, image: int, seen: Counted) -> ReferenceVerdictDict:
        """Record that an object cannot be compared, because its mask is empty; return its row."""
        self.result.individuals.append(("unknown", None))
        self.result.remarks.append(_empty(f"contextual_images[{image}]", seen))
        return _row(image, seen.object_id, None, None, None, None, "unknown")

    def _match(self, views: Sequence[View], candidates: Sequence[Counted]) -> list[ReferenceVerdictDict]:
        matches = match(views, individuals(views, self.threshold), candidates)
        matched = sum(each.object_index is not None for each in matches)
        table = similarities([view.object for view in views], candidates)
        rows: dict[int, ReferenceVerdictDict] = {}
        for number, each in enumerate(matches):
            status = self._status(each, matched, bool(candidates))
            self.result.individuals.append((status, each.similarity))
            for index in each.views:
                match_id = None if each.object_index is None else candidates[each.object_index].object_id
                similarity = None if each.object_index is None else float(table[index, each.object_index])
                view = views[index]
                rows[index] = _row(view.image, view.object.object_id, number, match_id, similarity, each.margin, status)
        return [rows[index] for index in sorted(rows)]

    def _status(self, individual: Match, matched: int, shows_label: bool) -> ReferenceStatus:
        if not shows_label:
            return "missing"
        if individual.similarity is not None:
            return "arrived" if individual.similarity >= self.threshold else "different"
        return "not_asked" if self.asked.asked is not None and matched >= self.asked.asked else "merged"

    def _best(self, image: int | None, picture: Picture) -> list[Counted]:
        objects = picture.of_label(self.asked.entity)
        if len(objects) > self.max_objects:
            name = "generated_image" if image is None else f"contextual_images[{image}]"
            self.result.remarks.append(_left_out(self.asked.entity, name, len(objects), self.max_objects))
        return objects[: self.max_objects]

    def _unknown(
        self, sources: Sequence[tuple[int, Picture]], views: Sequence[View], visible: Sequence[View], is_unknown: bool
    ) -> Iterator[tuple[int | None, str | None]]:
        """Yield (image, reason) for each contextual image whose status is unknown.

        The image is None if it was not given. The reason is None if the verdict gives it elsewhere.
        """
        entity = self.asked.entity
        showing, comparable = {view.image for view in views}, {view.image for view in visible}
        for image, picture in sources:
            name = f"contextual_images[{image}]"
            if picture.objects is None:
                yield image, f"{name}: segmentation failed, so '{entity}' cannot be compared"
            elif image not in showing and self.is_tied:
                yield image, f"{name}: no '{entity}' found, but the prompt says that this image shows it"
            elif image in comparable and is_unknown:
                yield image, None
        yield from ((None, reason) for reason in images_not_given([self.asked]))


def _empty(image_name: str, seen: Counted) -> str:
    return f"{image_name} {seen.object_id}: its mask is empty, so it cannot be compared"


def _left_out(entity: str, image_name: str, count: int, max_objects: int) -> str:
    return (
        f"{entity}: {image_name} has {count} objects; only the {max_objects} with the best scores were compared "
        "(limits.max_identity_objects)"
    )


def _row(
    image: int | None, object_id: str | None, individual: int | None, match_id: str | None,
    similarity: float | None, margin: float | None, status: ReferenceStatus,
) -> ReferenceVerdictDict:  # fmt: skip
    return {
        "image": image, "object_id": object_id, "individual": individual, "match": match_id,
        "similarity": None if similarity is None else shown(similarity),
        "margin": None if margin is None else shown(margin), "status": status,
    }  # fmt: skip
