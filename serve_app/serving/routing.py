"""Choose the replica for each call.

ImageAffinityRouter sends the same image to the same segmenter replica, which has the image's features in its cache.
Rendezvous hashing of the image's content gives each image a home replica. It needs no state, every ingress computes the
same home, and when a replica starts or stops, only that replica's images get another home. The home is chosen while
its queue is at most SLACK calls longer than the shortest. Otherwise the choice is Serve's own: of two random replicas
the one with the shorter queue.

IngressRouter sends a request to any ingress replica and ignores the caller's multiplexing header.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

from serve_app.serving.messages import ImageTask, OverlayTask

SLACK = 2
"""The home's queue may be this many calls longer than the shortest queue, because its cache may save a vision pass."""


class ImageAffinityRouter(FIFOMixin, RequestRouter):
    """Chooses a segmenter replica for a call whose first argument is an ImageTask or an OverlayTask.

    It does not pass the image's key as Serve's `multiplexed_model_id`, which is meant for a few models: Serve 2.60
    never forgets the last call of each id, and so would keep every image in the object store.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Rank replicas for one call.

        Args:
            candidate_replicas: the running replicas; may be empty.
            pending_request: the call; None if Serve wants a replica for any call.

        Returns:
            Groups of replicas in the order in which Serve tries them; within a group the shortest queue wins.
        """
        if not candidate_replicas:
            return []
        others = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        task = pending_request.args[0] if pending_request and pending_request.args else None
        if not isinstance(task, ImageTask | OverlayTask):
            return [others]
        if isinstance(task, ImageTask) and task.version is not None:
            # Only replicas of this version do the work, and the home may have another, so the home is not preferred.
            return [[each for each in candidate_replicas if each.replica_id.unique_id in task.replicas], others]
        home = home_of(task.key, candidate_replicas)
        if self._queue_length(home) > min(map(self._queue_length, candidate_replicas)) + SLACK:
            return [others]
        return [[home], others]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> PendingRequest | None:
        """Return the pending call for which a replica was chosen; Serve would otherwise take the oldest call.

        Metadata is compared by identity, because the calls of one request have equal ids.
        """
        pending = (call for call in self._pending_requests_to_fulfill if call.metadata is request_metadata)
        return next((call for call in pending if not call.future.done()), None)

    def _queue_length(self, replica: RunningReplica) -> int:
        # The last known length; a replica without one counts as idle.
        return self.replica_queue_len_cache.get(replica.replica_id) or 0


class IngressRouter(FIFOMixin, LocalityMixin, RequestRouter):
    """Serve's default router, except that it ignores the header `serve_multiplexed_model_id`.

    Of two random replicas near the caller, the one with the shorter queue gets the request. Serve's proxy takes the
    header from any caller, delays the request while it looks for a replica with that model, and never forgets the last
    request of each id (Serve 2.60). An untrusted caller could fill the proxy's memory that way.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Choose at most two replicas, first near the caller; see `ImageAffinityRouter.choose_replicas`."""
        del candidate_replicas  # `apply_locality_routing` knows the replicas itself
        near = list(self.apply_locality_routing(pending_request))
        chosen = random.sample(near, min(2, len(near)))
        return [[self.curr_replicas[replica] for replica in chosen]] if chosen else []

    def _add_pending_request_to_indices(self, pending_request: PendingRequest) -> None:
        pending_request.metadata.multiplexed_model_id = ""
        super()._add_pending_request_to_indices(pending_request)


def home_of(key: str, replicas: Sequence[RunningReplica]) -> RunningReplica:
    """Return the home replica of an image.

    Args:
        key: content hash of the image file.
        replicas: the replicas to choose from; at least one.
    """

    def weight(replica: RunningReplica) -> bytes:
        return blake2b(f"{key} {replica.replica_id.unique_id}".encode(), digest_size=8).digest()

    return max(replicas, key=weight)
