"""Defines the protocols that a parser, a segmenter and an identity model implement. Imports no model library.

To add a model, write one module with a function `load(config: AppConfig)` whose return annotation is one of these
protocols, and add one line to `config.engines`. The service calls methods without `async` from one thread, one call
after another. Only `prepare` and `check_phrases` are called from several threads.

If one item of a batch fails, the method returns a GensegError in that item's place. If the method raises, or returns
another number of items than it was given, the whole batch fails. After several such failures in a row, Ray Serve
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
    """A segmenter's features of one image or one phrase. The service only caches them and passes them back."""

    @property
    def nbytes(self) -> int:
        """Size of the features on the model's device, in bytes."""


Prepared = TypeVar("Prepared")
Encoded = TypeVar("Encoded", bound=Features)
Embedded = TypeVar("Embedded", bound=Features)


@dataclass(frozen=True)
class Pair(Generic[Encoded, Embedded]):
    """An image and a phrase: a request to find every instance of the phrase in the image.

    Attributes:
        image: features of the image.
        phrase: features of the phrase.
        threshold: instances with a score above it are wanted, in [0, 1].
        masks: False if the masks are not needed; then `mask_logits` of the answer may be empty.
    """

    image: Encoded
    phrase: Embedded
    threshold: float
    masks: bool = True


@dataclass(frozen=True)
class Detections:
    """The answer to one Pair: N instances, best first. N may be 0.

    Attributes:
        boxes: (N, 4) float32 xyxy, relative to the image, in [0, 1].
        scores: (N,) float32 in [0, 1]: query score x presence score.
        presence: presence score of the phrase in the image, in [0, 1].
        mask_logits: (N, h, w) float32, on the model's mask grid, which covers the whole image. May be (0, h, w) if
            the pair has `masks=False`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: float
    mask_logits: NDArray[np.float32]


class Segmenter(Protocol[Prepared, Encoded, Embedded]):
    """Finds every instance of a phrase in an image.

    The work is split into steps (`prepare` and `encode`, `embed`, `detect`), so that the service can cache and batch
    the result of each.
    """

    resolution_hw: tuple[int, int]
    """Height and width of the model's input in pixels. `batching.max_pixels` counts these pixels for every image."""

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Turn a picture into the model's input. Runs on the CPU; several threads call it at once.

        Args:
            image: (H, W, 3) uint8 RGB, of any size; may be read-only.
        """

    def encode(self, images: Sequence[Prepared]) -> Sequence[Encoded | GensegError]:
        """Run the vision pass.

        Args:
            images: outputs of `prepare`, at least one.

        Returns:
            The features of each image, or its error, in order.
        """

    def embed(self, phrases: Sequence[str]) -> Sequence[Embedded | GensegError]:
        """Run the text pass.

        Args:
            phrases: noun phrases, at least one.

        Returns:
            The features of each phrase, in order. If the model cannot read a phrase, its entry is an InvalidRequest.
            The message gives the reason, without the phrase and without a field name.
        """

    def detect(self, pairs: Sequence[Pair[Encoded, Embedded]]) -> Sequence[Detections | GensegError]:
        """Find the instances for each pair. The pairs may mix images and phrases freely.

        Args:
            pairs: at least one.

        Returns:
            The Detections of each pair, or its error, in order: an InternalError if the model's output is not finite.
        """


@runtime_checkable
class PhraseChecker(Protocol):
    """An optional method of a Segmenter: checks phrases without using the device.

    If a segmenter does not have it, `embed` must tell the service of unreadable phrases, after a wait for the device.
    """

    def check_phrases(self, phrases: Sequence[str]) -> Sequence[InvalidRequest | None]:
        """Return the errors that `embed` would return. Any thread may call it, at any time.

        Args:
            phrases: noun phrases, at least one.

        Returns:
            One entry per phrase, in order: None, or the error.
        """


Embedding = NDArray[np.float32]
"""An identity model's embedding of one object: (D,) float32 with L2 norm 1."""


class IdentityModel(Protocol):
    """Embeds objects. Two objects are the same individual if the cosine of their embeddings is high enough."""

    described: IdentityDict
    """What the verdict reports about the model: its name as configured, its crop, and the cosine threshold."""

    side: int
    """Height and width of the model's square input, in pixels."""

    dimension: int
    """D, the number of values in an embedding."""

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> Sequence[Embedding | GensegError]:
        """Embed objects.

        Args:
            crops: (side, side, 3) uint8 RGB each, from `images.crops.object_crop`; at least one.

        Returns:
            The embedding of each crop, or its error, in order: an InternalError if the model's output is not finite.
        """


@runtime_checkable
class LocalParser(Protocol):
    """A language model in this process. It gets prompts in batches of at most `batching.max_prompts`."""

    def generate_each(self, prompts: Sequence[str]) -> Sequence[str | GensegError]:
        """Generate the model's reply to each prompt. `entities.chat` builds the chat.

        Args:
            prompts: at least one, none empty.

        Returns:
            The raw reply to each prompt, or its error, in order: a CutReply if the reply reached its length limit,
            TooLarge if the prompt is too long.
        """


@runtime_checkable
class RemoteParser(Protocol):
    """A language model on another server.

    One event loop makes all calls, any number at once. A failure of the server does not make the replica unhealthy.
    """

    async def reply(self, prompt: str) -> str:
        """Request the model's reply to a prompt. `entities.chat` builds the chat.

        Args:
            prompt: not empty.

        Returns:
            The raw reply; a CutReply if it reached its length limit.

        Raises:
            GensegError: the server cannot be reached, is busy or refuses the call, or its answer is not a reply.
        """

    async def check(self) -> None:
        """Check that the server answers.

        Raises:
            GensegError: it does not answer.
        """


Parser = LocalParser | RemoteParser
