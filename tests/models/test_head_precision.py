"""A half-precision head on the held-out scenes: float16 keeps every object, score and mask; bfloat16 does not."""

from __future__ import annotations

import pytest

from tests.models.head_error import Answers, answers, error_of


@pytest.fixture(scope="module")
def exact() -> Answers:
    return answers("float32")


def test_a_head_in_float16_keeps_scores_boxes_masks_and_presence(exact: Answers) -> None:
    error = error_of(exact, answers("float16"))
    assert error.objects >= 50
    assert error.score_mean <= 0.001
    assert error.iou_min >= 0.99
    assert error.flipped == 0
    assert error.presence_max <= 0.001
    assert error.box_max <= 0.001


def test_a_head_in_bfloat16_moves_scores_farther(exact: Answers) -> None:
    """Why `auto` is float16: bfloat16 misses the bounds above."""
    error = error_of(exact, answers("bfloat16"))
    assert 0.001 < error.score_mean <= 0.004
    assert error.iou_min >= 0.97
    assert error.presence_max <= 0.005
    assert error.box_max <= 0.005
