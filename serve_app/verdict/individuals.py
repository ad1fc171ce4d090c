"""Which contextual objects show one individual, and which generated object is it. Pure arithmetic on embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from serve_app.verdict.evidence import Counted


@dataclass(frozen=True)
class View:
    """One object of a contextual image."""

    image: int
    seen: Counted


@dataclass(frozen=True)
class Match:
    """What became of one individual: the generated object, and how alike they are.

    Attributes:
        views: places of the individual's objects in the list of views.
        found: place of the generated object; None without one.
        similarity: of the best view, in [-1, 1]; None without a match.
        margin: `similarity` less the highest similarity of the same object to another individual; None without one.
    """

    views: tuple[int, ...]
    found: int | None
    similarity: float | None
    margin: float | None


def similarities(first: Sequence[Counted], second: Sequence[Counted]) -> NDArray[np.float64]:
    """Compute the cosine of each pair of embeddings.

    Args:
        first, second: objects with embeddings.

    Returns:
        (len(first), len(second)) float64 in [-1, 1].
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    sides = [np.stack([each.embedding for each in side if each.embedding is not None]) for side in (first, second)]
    return np.clip(sides[0].astype(np.float64) @ sides[1].astype(np.float64).T, -1.0, 1.0)


def individuals(views: Sequence[View], threshold: float) -> list[tuple[int, ...]]:
    """Join the views of one individual, greedily from the most similar pair down.

    Args:
        views: of one label, in the order of the images.
        threshold: two views below it are never joined directly.

    Returns:
        The places of each individual's views, in order of the first; objects of one image are never one individual.
    """
    alike = similarities([view.seen for view in views], [view.seen for view in views])
    groups = [{place} for place in range(len(views))]
    images = [{view.image} for view in views]  # of each view's group
    first, second = np.nonzero(np.triu(alike >= threshold, k=1))
    order = np.argsort(-alike[first, second], kind="stable")  # of equal pairs the first in order comes first
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if images[a].isdisjoint(images[b]):  # views of one group share its images
            joined, shown = groups[a] | groups[b], images[a] | images[b]
            for place in joined:
                groups[place], images[place] = joined, shown
    return [tuple(sorted(group)) for place, group in enumerate(groups) if place == min(group)]


def match(views: Sequence[View], groups: Sequence[tuple[int, ...]], found: Sequence[Counted]) -> list[Match]:
    """Match individuals and generated objects one to one, so that the sum of the similarities is highest.

    Args:
        views: of one label.
        groups: their individuals, as places in `views`.
        found: the generated image's objects of the label.

    Returns:
        One match an individual, in order.
    """
    by_view = similarities([view.seen for view in views], found)
    table = np.array([by_view[list(group)].max(axis=0) for group in groups]).reshape(len(groups), len(found))
    rows, columns = linear_sum_assignment(table, maximize=True)
    partner = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    matches = []
    for place, group in enumerate(groups):
        column = partner.get(place)
        if column is None:
            matches.append(Match(group, None, None, None))
            continue
        others = np.delete(table[:, column], place)
        similarity = float(table[place, column])
        matches.append(Match(group, column, similarity, similarity - float(others.max()) if others.size else None))
    return matches
