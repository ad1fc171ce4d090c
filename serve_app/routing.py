"""ImageAffinityRouter: an image goes to the replica that has its features, where that costs nothing.

Every image has a home among the replicas, by rendezvous hashing of its content: no state, every ingress agrees, and a
replica that comes or goes moves only the images it takes or held. The home is chosen while its queue is about as short
as the shortest; under uneven load, or for a replica that is gone, the choice is Serve's own: two at random, the
shorter queue.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b

from ray.serve.request_router import FIFOMixin, MultiplexMixin, PendingRequest, RequestRouter, RunningReplica

SLACK = 2
"""Calls by which the home's queue may be longer than the shortest: a vision pass saved is worth about as much."""


class ImageAffinityRouter(FIFOMixin, MultiplexMixin, RequestRouter):
    """Chooses a segmenter replica for a call whose `multiplexed_model_id` is the image's content hash."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Rank replicas for one call.

        Args:
            candidate_replicas: those that run; may be empty.
            pending_request: the call; None where Serve asks for any.

        Returns:
            Groups in the order in which they are tried; within a group the shorter queue wins.
        """
        if not candidate_replicas:
            return []
        others = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        key = pending_request.metadata.multiplexed_model_id if pending_request else ""
        if not key:
            return [others]
        home = home_of(key, candidate_replicas)
        if self._queue_length(home) > min(map(self._queue_length, candidate_replicas)) + SLACK:
            return [others]
        return [[home], others]

    def _queue_length(self, replica: RunningReplica) -> int:
        # As the router last knew it; a replica that it knows nothing of is taken to be idle.
        return self.replica_queue_len_cache.get(replica.replica_id) or 0


def home_of(key: str, replicas: Sequence[RunningReplica]) -> RunningReplica:
    """The replica that an image belongs to.

    Args:
        key: content hash.
        replicas: at least one.
    """

    def weight(replica: RunningReplica) -> bytes:
        return blake2b(f"{key} {replica.replica_id.unique_id}".encode(), digest_size=8).digest()

    return max(replicas, key=weight)
