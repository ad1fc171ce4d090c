"""Groups contextual objects by individual, and matches individuals with generated objects, by embeddings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from serve_app.verdict.evidence import Counted


@dataclass(frozen=True)
class View:
    """An object of a contextual image: a view of an individual."""

    image: int
    seen: Counted


@dataclass(frozen=True)
class Match:
    """An individual and the generated object that matches it.

    Attributes:
        views: indices of the individual's views in the list of views.
        found: index of the generated object; None without a match.
        similarity: similarity of the best view to the object, in [-1, 1]; None without a match.
        margin: `similarity` less the highest similarity of the object to another individual; None without a match, or
            without another individual.
    """

    views: tuple[int, ...]
    found: int | None
    similarity: float | None
    margin: float | None


def similarities(first: Sequence[Counted], second: Sequence[Counted]) -> NDArray[np.float64]:
    """Compute the cosine similarity of each pair of embeddings.

    Args:
        first: objects with embeddings; may be empty.
        second: objects with embeddings; may be empty.

    Returns:
        (len(first), len(second)) float64 in [-1, 1].
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    sides = [np.stack([each.embedding for each in side if each.embedding is not None]) for side in (first, second)]
    return np.clip(sides[0].astype(np.float64) @ sides[1].astype(np.float64).T, -1.0, 1.0)


def individuals(views: Sequence[View], threshold: float) -> list[tuple[int, ...]]:
    """Group views by individual: join pairs of views greedily, beginning with the most similar pair.

    Objects of the same image are never the same individual.

    Args:
        views: the views of one label, in the order of the images.
        threshold: only pairs with at least this similarity are joined. Two views can get into one group by a third.

    Returns:
        The indices of each individual's views, ordered by the first view.
    """
    alike = similarities([view.seen for view in views], [view.seen for view in views])
    groups = [{place} for place in range(len(views))]
    images = [{view.image} for view in views]  # the images of each view's group
    first, second = np.nonzero(np.triu(alike >= threshold, k=1))
    order = np.argsort(-alike[first, second], kind="stable")  # stable: equal pairs keep their order
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if images[a].isdisjoint(images[b]):  # never true for two views of the same group
            joined, shown = groups[a] | groups[b], images[a] | images[b]
            for place in joined:
                groups[place], images[place] = joined, shown
    return [tuple(sorted(group)) for place, group in enumerate(groups) if place == min(group)]


def match(views: Sequence[View], groups: Sequence[tuple[int, ...]], found: Sequence[Counted]) -> list[Match]:
    """Match individuals with generated objects one to one, with the highest sum of similarities (Hungarian algorithm).

    Args:
        views: the views of one label.
        groups: the views of each individual, from `individuals`.
        found: the generated image's objects of the label.

    Returns:
        One `Match` for each individual, in order.
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
