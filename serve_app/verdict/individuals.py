"""Groups contextual objects by individual, and matches individuals with generated objects, by embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from serve_app.verdict.evidence import Counted


@dataclass(frozen=True)
class View:
    """An object of a contextual image: one view of an individual.

    Attributes:
        image: index of the contextual image.
        object: the object.
    """

    image: int
    object: Counted


@dataclass(frozen=True)
class Match:
    """An individual and the generated object that matches it.

    Attributes:
        views: indices of the individual's views in the list of views.
        object_index: index of the generated object; None without a match.
        similarity: cosine similarity of the most similar view to the object, in [-1, 1]; None without a match.
        margin: `similarity` minus the highest similarity of the object to another individual; None without a match, or
            without another individual.
    """

    views: tuple[int, ...]
    object_index: int | None
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
        threshold: only pairs with at least this similarity are joined. A third view can join two views that are less
            similar.

    Returns:
        The indices of each individual's views, ordered by the first view.
    """
    alike = similarities([view.object for view in views], [view.object for view in views])
    groups = [{index} for index in range(len(views))]
    images = [{view.image} for view in views]  # the images of each view's group
    first, second = np.nonzero(np.triu(alike >= threshold, k=1))
    order = np.argsort(-alike[first, second], kind="stable")  # stable: equal pairs keep their order
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if images[a].isdisjoint(images[b]):  # never true for two views of the same group
            joined, shown = groups[a] | groups[b], images[a] | images[b]
            for index in joined:
                groups[index], images[index] = joined, shown
    return [tuple(sorted(group)) for index, group in enumerate(groups) if index == min(group)]


def match(views: Sequence[View], groups: Sequence[tuple[int, ...]], objects: Sequence[Counted]) -> list[Match]:
    """Match individuals with generated objects one to one, with the highest sum of similarities (Hungarian algorithm).

    Args:
        views: the views of one label.
        groups: the views of each individual, from `individuals`.
        objects: the generated image's objects of the label.

    Returns:
        One `Match` for each individual, in order.
    """
    of_views = similarities([view.object for view in views], objects)
    table = np.array([of_views[list(group)].max(axis=0) for group in groups]).reshape(len(groups), len(objects))
    rows, columns = linear_sum_assignment(table, maximize=True)
    column_of = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    matches = []
    for row, group in enumerate(groups):
        column = column_of.get(row)
        if column is None:
            matches.append(Match(group, None, None, None))
            continue
        others = np.delete(table[:, column], row)
        similarity = float(table[row, column])
        matches.append(Match(group, column, similarity, similarity - float(others.max()) if others.size else None))
    return matches
