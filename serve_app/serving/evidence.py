"""Collect the evidence for the verdict in a segmenter replica, which has the image's masks, features and pixels.

If too few instances of an entity with adjectives ("red sofa") are found, the detector also looks for its bare noun
("sofa"). It uses the features that the vision pass already computed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from serve_app.entities.mentions import Asked
from serve_app.images.modes import RgbArray
from serve_app.models.interface import Features
from serve_app.schemas.dicts import BareDict, ObjectDict, SegmentedDict
from serve_app.serving.documents import MaskBytes
from serve_app.serving.embeddings import IdentityEmbedder
from serve_app.serving.messages import ImageTask, JudgedImage
from serve_app.serving.objects import ObjectFinder
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.phrases import PhraseReading
from serve_app.serving.replica.turns import FairThreads
from serve_app.verdict.entities import bare_nouns
from serve_app.verdict.evidence import Counted, Evidence, Picture, Seen
from serve_app.verdict.references import compared_labels
from serve_app.verdict.same_masks import besides, compare_masks


@dataclass(frozen=True)
class FoundImage:
    """An image whose objects have been found.

    Attributes:
        features: the output of the vision pass.
        document: the image's document, with masks as RLE.
        pixels: returns the decoded image, kept or decoded again.
    """

    features: Features
    document: SegmentedDict
    pixels: Callable[[], Awaitable[RgbArray]]


class EvidenceFinder:
    """Collects evidence with the models of one replica.

    Args:
        objects: finds bare nouns.
        reading: computes the features of bare nouns.
        threads: compare masks.
        identity: embeds objects; None if no identity model is configured.
        metrics: the replica's metrics.
    """

    def __init__(
        self,
        objects: ObjectFinder,
        reading: PhraseReading,
        threads: FairThreads,
        identity: IdentityEmbedder | None,
        metrics: Metrics,
    ) -> None:
        self._objects = objects
        self._reading = reading
        self._threads = threads
        self._identity = identity
        self._metrics = metrics

    def needs_pixels(self, judged: JudgedImage | None) -> bool:
        """Return whether `find` may need the image's pixels."""
        return self._identity is not None and judged is not None and judged.is_compared

    async def find(
        self, image: FoundImage, asked: Sequence[Asked], task: ImageTask, judged: JudgedImage, max_mask_bytes: int
    ) -> Evidence:
        """Collect the evidence of one image.

        Args:
            image: the image and its objects.
            asked: what the prompt asks for, without entities that the model cannot read.
            task: names the request, whose turn of threads and models is used; its options apply to bare nouns too.
            judged: which image of the request this is.
            max_mask_bytes: limit of the text of the bare nouns' masks.

        Raises:
            GensegError: a model failed, or the masks are over the limit (TooLarge).
        """
        listed = [_seen(each) for each in image.document["objects"] or ()]
        with self._metrics.stage("verdict"):
            distinct, overlaps = await self._threads.run_steps(compare_masks(listed), task.request_id)
        embedded = await self._embedded(image, distinct, asked, task, judged)
        picture = Picture(tuple(_counted(each) for each in embedded), tuple(overlaps))
        if judged.image is None:
            bare = await self._bare(image, listed, bare_nouns(asked, picture), task, max_mask_bytes)
            picture = replace(picture, bare=bare)
        return Evidence(picture, None if self._identity is None else self._identity.described)

    async def _embedded(
        self, image: FoundImage, distinct: Sequence[Seen], asked: Sequence[Asked], task: ImageTask, judged: JudgedImage
    ) -> list[Seen]:
        """Embed the objects that are compared with other images' objects; return the others without an embedding."""
        if self._identity is None or not judged.is_compared:
            return [*distinct]
        chosen: list[Seen] = []
        for label in compared_labels(asked, judged.contextual_images, judged.image):
            chosen += [each for each in distinct if each.label == label][: judged.max_objects]
        embedded = await self._identity.embed(task.key, image.pixels, chosen, task.request_id)
        by_id = {each.object_id: each for each in embedded}
        return [by_id.get(each.object_id, each) for each in distinct]

    async def _bare(
        self,
        image: FoundImage,
        listed: Sequence[Seen],
        nouns: Mapping[str, str],
        task: ImageTask,
        max_mask_bytes: int,
    ) -> dict[str, BareDict]:
        """Find bare nouns, each with its entity's threshold. Nouns that the model cannot read are left out."""
        readable, _ = await self._reading.read([*dict.fromkeys(nouns.values())], task.request_id)
        phrases = {entity: readable[noun] for entity, noun in nouns.items() if noun in readable}
        if not phrases:
            return {}
        document = image.document
        size_wh = document["width"], document["height"]
        found = await self._objects.find(image.features, size_wh, phrases, task, MaskBytes(max_mask_bytes))
        seen: dict[str, list[Seen]] = {entity: [] for entity in phrases}
        for each in found["objects"] or ():
            seen[each["label"]].append(_seen(each))
        with self._metrics.stage("verdict"):
            counts = await self._threads.run_steps(besides(seen, listed), task.request_id)
        return {entity: {"entity": nouns[entity], "found": count} for entity, count in counts.items()}


def _seen(found: ObjectDict) -> Seen:
    return Seen(found["object_id"], found["label"], found["score"], found["mask_rle"])


def _counted(seen: Seen) -> Counted:
    return Counted(seen.object_id, seen.label, seen.score, seen.embedding)
