from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.images.marks import Marks
from serve_app.serving.messages import ImageTask, ObjectOptions, OverlayTask
from serve_app.serving.routing import ImageAffinityRouter, home_of


def replicas(*names: str) -> list[Any]:
    return [SimpleNamespace(replica_id=SimpleNamespace(unique_id=name)) for name in names]


def homes(keys: range, *names: str) -> dict[int, str]:
    return {key: home_of(str(key), replicas(*names)).replica_id.unique_id for key in keys}


def test_home_of_is_the_same_for_everyone_and_in_any_order() -> None:
    assert homes(range(50), "a", "b", "c") == homes(range(50), "c", "a", "b")


def test_home_of_spreads_images_over_the_replicas() -> None:
    counts = Counter(homes(range(3000), "a", "b", "c").values())
    assert all(800 < count < 1200 for count in counts.values())


def test_a_replica_that_leaves_moves_only_its_own_images() -> None:
    before, after = homes(range(500), "a", "b", "c"), homes(range(500), "a", "c")
    assert all(after[key] == home for key, home in before.items() if home != "b")


async def test_an_image_for_one_version_goes_first_to_a_replica_that_has_it() -> None:
    router = ImageAffinityRouter.__new__(ImageAffinityRouter)
    wanted = ImageTask("key", b"", (), ObjectOptions(), "request", 1.0, version="2", replicas=frozenset({"b", "gone"}))
    call: Any = SimpleNamespace(args=(wanted,))
    candidates = replicas("a", "b", "c", "d")
    for _ in range(10):
        first, others = await router.choose_replicas(candidates, call)
        assert [each.replica_id.unique_id for each in first] == ["b"]
        assert len(others) == 2


class Idle(ImageAffinityRouter):
    """Knows all replicas to be idle."""

    def _queue_length(self, _: object) -> int:
        return 0


@pytest.mark.parametrize(
    "wanted",
    [
        ImageTask("key", b"", (), ObjectOptions(), "request", 1.0),
        OverlayTask("key", b"", (), (), "fill", Marks(), "request", 1.0),
    ],
    ids=["segment", "overlay"],
)
async def test_an_image_goes_to_its_home(wanted: ImageTask | OverlayTask) -> None:
    candidates = replicas("a", "b", "c", "d")
    (first,), _ = await Idle.__new__(Idle).choose_replicas(candidates, SimpleNamespace(args=(wanted,)))  # type: ignore[arg-type]
    assert first is home_of("key", candidates)
