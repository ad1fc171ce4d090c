"""What a parser, a segmenter and an identity model must offer to be served. Importing this loads no model library.

A model is one module with a function `load(config: AppConfig)`, annotated to return what it is, and one line in
`config.engines`. Methods without `async` run in one thread, one call after another; `prepare` alone runs in
several threads. An error of one item stands in the item's place, as a GensegError. An exception that a method raises
instead, or an answer of another length than the question, fails the whole batch; after several in a row Ray Serve
replaces the replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import GensegError, InvalidRequest
from serve_app.schemas.dicts import IdentityDict


class Features(Protocol):
    """What a segmenter keeps of an image or of a phrase. The service caches it and hands it back."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds, on the model's device."""


Prepared = TypeVar("Prepared")
Encoded = TypeVar("Encoded", bound=Features)
Embedded = TypeVar("Embedded", bound=Features)


@dataclass(frozen=True)
class Pair(Generic[Encoded, Embedded]):
    """One question: every instance of `phrase` in `image` with a score above `threshold`, in [0, 1].

    Attributes:
        masks: False where nobody looks at the masks; a model that draws none then may leave `mask_logits` empty.
    """

    image: Encoded
    phrase: Embedded
    threshold: float
    masks: bool = True


@dataclass(frozen=True)
class Detections:
    """The answer to one Pair; N instances, best first; N may be 0.

    Attributes:
        boxes: (N, 4) float32 xyxy, relative to the image, in [0, 1].
        scores: (N,) float32 in [0, 1]: query score x presence score.
        presence: presence score of the phrase in the image, in [0, 1].
        mask_logits: (N, h, w) float32, on the model's mask grid, which covers the whole image; (0, h, w) where the
            pair asked for no masks.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: float
    mask_logits: NDArray[np.float32]


class Segmenter(Protocol[Prepared, Encoded, Embedded]):
    """Finds every instance of a phrase in an image, in three steps, so that the service can cache and batch between."""

    resolution_hw: tuple[int, int]
    """Height and width of the model's input; `batching.max_pixels` counts these pixels for every image."""

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Make the model's input of a picture. CPU work; several threads call it at once.

        Args:
            image: (H, W, 3) uint8 RGB, of any size; may be read-only.
        """

    def encode(self, images: Sequence[Prepared]) -> Sequence[Encoded | GensegError]:
        """Run the vision pass.

        Args:
            images: from `prepare`, at least one.

        Returns:
            Features, or the error, of each image, in order.
        """

    def embed(self, phrases: Sequence[str]) -> Sequence[Embedded | GensegError]:
        """Run the text pass.

        Args:
            phrases: noun phrases, at least one.

        Returns:
            Features of each phrase, in order; for one that the model cannot read, InvalidRequest with the reason, which
            names neither the phrase nor a field.
        """

    def detect(self, pairs: Sequence[Pair[Encoded, Embedded]]) -> Sequence[Detections | GensegError]:
        """Answer pairs of any images and phrases.

        Args:
            pairs: at least one.

        Returns:
            Detections, or the error, of each pair, in order. InternalError where the model's numbers are not finite.
        """


@runtime_checkable
class PhraseChecker(Protocol):
    """What a Segmenter may offer besides: tell at once whether it can read phrases, without its device.

    Without it the service learns the same from `embed`, which waits for the device.
    """

    def check_phrases(self, phrases: Sequence[str]) -> Sequence[InvalidRequest | None]:
        """Tell what `embed` would refuse. Any thread may call it, at any time.

        Args:
            phrases: noun phrases, at least one.

        Returns:
            For each phrase, in order, None or the error that `embed` gives.
        """


Embedding = NDArray[np.float32]
"""What an identity model makes of one object: (D,) float32 of length 1."""


class IdentityModel(Protocol):
    """Tells whether two objects are the same one: their embeddings are alike then, by the cosine."""

    described: IdentityDict
    """What a verdict says of the model: its name as configured, and from which cosine on two objects are the same."""

    side: int
    """Pixels a side of the model's input."""

    dimension: int
    """D, the length of an embedding."""

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> Sequence[Embedding | GensegError]:
        """Embed objects.

        Args:
            crops: (side, side, 3) uint8 RGB each, see `images.crops.object_crop`; at least one.

        Returns:
            The embedding, or the error, of each crop, in order. InternalError where the model's numbers are not finite.
        """


@runtime_checkable
class LocalParser(Protocol):
    """A language model in this process: prompts are read in batches of at most `batching.max_prompts`."""

    def generate_each(self, prompts: Sequence[str]) -> Sequence[str | GensegError]:
        """Let the model answer the chat of each prompt; see `entities.chat`.

        Args:
            prompts: at least one, none empty.

        Returns:
            The raw reply to each prompt, or its error, in order. A CutReply where the reply ended at its limit;
            TooLarge for a prompt that is too long.
        """


@runtime_checkable
class RemoteParser(Protocol):
    """A language model on a server. Calls of one event loop, any number at once; its failures are not the replica's."""

    async def reply(self, prompt: str) -> str:
        """Let the model answer the chat of a prompt; see `entities.chat`.

        Args:
            prompt: not empty.

        Returns:
            The raw reply; a CutReply where it ended at its limit.

        Raises:
            GensegError: the server cannot be reached, is busy, refuses the call, or its answer is not a reply.
        """

    async def check(self) -> None:
        """Ask whether the server answers.

        Raises:
            GensegError: it does not.
        """


Parser = LocalParser | RemoteParser
