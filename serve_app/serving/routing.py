"""Which replica a call goes to.

ImageAffinityRouter: an image goes to the segmenter that has its features, where that costs nothing.
Every image has a home among the replicas, by rendezvous hashing of its content: no state, every ingress agrees, and a
replica that comes or goes moves only the images it takes or held. The home is chosen while its queue is about as short
as the shortest; under uneven load, or for a replica that is gone, the choice is Serve's own: two at random, the
shorter queue.

IngressRouter: any ingress is as good as another, whatever a caller's headers say.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

from serve_app.serving.messages import ImageTask, OverlayTask

SLACK = 2
"""Calls by which the home's queue may be longer than the shortest: a vision pass saved is worth about as much."""


class ImageAffinityRouter(FIFOMixin, RequestRouter):
    """Chooses a segmenter replica for a call whose first argument is an ImageTask or an OverlayTask.

    The key is not handed over as Serve's `multiplexed_model_id`, made for a few models: Serve 2.60 keeps the last call
    of every id that it has seen, and with it the image in the object store, for ever.
    """

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
        task = pending_request.args[0] if pending_request and pending_request.args else None
        if not isinstance(task, ImageTask | OverlayTask):
            return [others]
        if isinstance(task, ImageTask) and task.version is not None:
            # Only a replica of this version does the work. The home may have another one, so any is tried.
            return [[each for each in candidate_replicas if each.replica_id.unique_id in task.replicas], others]
        home = home_of(task.key, candidate_replicas)
        if self._queue_length(home) > min(map(self._queue_length, candidate_replicas)) + SLACK:
            return [others]
        return [[home], others]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> PendingRequest | None:
        """Give the replica to the call that it was chosen for, not to the one that came first.

        Overrides what Serve asks before it takes the first. By identity: the calls of one request share their ids.
        """
        pending = (call for call in self._pending_requests_to_fulfill if call.metadata is request_metadata)
        return next((call for call in pending if not call.future.done()), None)

    def _queue_length(self, replica: RunningReplica) -> int:
        # As the router last knew it; a replica that it knows nothing of is taken to be idle.
        return self.replica_queue_len_cache.get(replica.replica_id) or 0


class IngressRouter(FIFOMixin, LocalityMixin, RequestRouter):
    """Serve's default, two near replicas at random and the shorter queue, deaf to `serve_multiplexed_model_id`.

    Serve's proxy takes that header from any caller, holds the request back while it looks for a replica with that
    model, and keeps the last request of every id for ever (Serve 2.60): a way to fill the proxy's memory from outside.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Choose at most two replicas, of those near the caller first; see `ImageAffinityRouter.choose_replicas`."""
        near = list(self.apply_locality_routing(pending_request))
        chosen = random.sample(near, min(2, len(near)))
        return [[self.curr_replicas[replica] for replica in chosen]] if chosen else []

    def _add_pending_request_to_indices(self, pending_request: PendingRequest) -> None:
        pending_request.metadata.multiplexed_model_id = ""
        super()._add_pending_request_to_indices(pending_request)


def home_of(key: str, replicas: Sequence[RunningReplica]) -> RunningReplica:
    """The replica that an image belongs to.

    Args:
        key: content hash.
        replicas: at least one.
    """

    def weight(replica: RunningReplica) -> bytes:
        return blake2b(f"{key} {replica.replica_id.unique_id}".encode(), digest_size=8).digest()

    return max(replicas, key=weight)
