"""Masks that are nearly the same, found without comparing every pair: the same pairs as by comparing all."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.masks.rle import area, encode_rle, iou_matrix
from serve_app.masks.steps import finish
from serve_app.schemas.dicts import RleDict
from serve_app.verdict.evidence import Seen
from serve_app.verdict.same_masks import MAX_OVERLAPS, besides, compare_masks


def boxes(seed: int, count: int, labels: int) -> list[Seen]:
    """Make objects whose masks are boxes near three places; some are empty."""
    rng = np.random.default_rng(seed)
    objects = []
    for index in range(count):
        mask = np.zeros((40, 60), np.bool_)
        left, top = (10, 5) if index % 2 else (30, 12)
        mask[top + rng.integers(2) : top + 15 - rng.integers(3), left : left + rng.integers(12, 16)] = index % 17 > 0
        label = f"thing {rng.integers(labels)}"
        objects.append(Seen(f"{label}_{index}", label, float(rng.random()), encode_rle(mask)))
    return objects


@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_over_the_bound_are_found(seed: int) -> None:
    objects = boxes(seed, 30, labels=8)
    iou = iou_matrix([each.mask for each in objects], [each.mask for each in objects])
    distinct, overlaps = finish(compare_masks(objects))
    pairs = [
        (iou[a, b], objects[a].object_id, objects[b].object_id)
        for a in range(len(objects))
        for b in range(a + 1, len(objects))
        if iou[a, b] > 0.8 and objects[a].label != objects[b].label
    ]
    assert len(pairs) > 0
    expected = sorted(pairs, key=lambda pair: -pair[0])[:MAX_OVERLAPS]
    assert [(each.iou, *each.object_ids) for each in overlaps] == expected
    kept: list[int] = []
    for place in sorted(range(len(objects)), key=lambda place: -objects[place].score):
        if not any(iou[place, k] > 0.8 and objects[place].label == objects[k].label for k in kept):
            kept.append(place)
    assert [each.object_id for each in distinct] == [objects[place].object_id for place in kept]
    assert len(distinct) < len(objects)


def test_the_largest_overlaps_are_listed_and_no_more_than_the_bound() -> None:
    mask = boxes(0, 2, 1)[1].mask
    objects = [Seen(f"{n}_0", str(n), 0.5, mask) for n in range(20)]
    _, overlaps = finish(compare_masks(objects))
    assert len(overlaps) == MAX_OVERLAPS
    assert [each.object_ids for each in overlaps[:2]] == [("0_0", "1_0"), ("0_0", "2_0")]


def test_nothing_is_compared_with_nothing() -> None:
    assert finish(compare_masks([])) == ([], [])
    assert finish(besides({}, boxes(0, 3, 1))) == {}
    assert finish(besides({"sofa": []}, boxes(0, 3, 1))) == {"sofa": 0}


def test_one_thing_twice_besides_the_list_counts_once() -> None:
    listed, other = boxes(0, 3, 1)[1:]
    twice = [Seen("sofa_0", "sofa", 0.9, other.mask), Seen("sofa_1", "sofa", 0.8, other.mask)]
    assert finish(besides({"blue sofa": twice}, [listed])) == {"blue sofa": 1}
    assert finish(besides({"blue sofa": twice}, [listed, other])) == {"blue sofa": 0}
    assert finish(besides({"blue sofa": twice}, [])) == {"blue sofa": 1}


def test_the_nouns_of_several_entities_are_counted_apart() -> None:
    """Two entities may have one noun, whose objects then count for both."""
    listed, other = boxes(0, 3, 1)[1:]
    found = [Seen("a_0", "a", 0.9, other.mask), Seen("a_1", "a", 0.8, listed.mask)]
    assert finish(besides({"blue sofa": found, "red sofa": found[:1], "old hat": found[1:]}, [listed])) == {
        "blue sofa": 1, "red sofa": 1, "old hat": 0,
    }  # fmt: skip


def test_listed_masks_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image may list 32 MB of masks: a second of reading."""
    listed, other = boxes(0, 3, 1)[1:]
    measured: list[str] = []

    def measure(rle: RleDict) -> int:
        measured.append(rle["counts"])
        return area(rle)

    monkeypatch.setattr("serve_app.verdict.same_masks.area", measure)
    bare = {str(n): [Seen(f"{n}_0", str(n), 0.9, other.mask)] for n in range(5)}
    assert finish(besides(bare, [listed])) == dict.fromkeys(bare, 1)
    assert measured.count(listed.mask["counts"]) == 1
