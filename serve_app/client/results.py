"""The classes of results, which read their values from the documents. Masks are decoded on demand.

Knows the documents and the mask formats, but not HTTP. If an image failed, reading its objects raises its error,
because "nothing was found" and "it is not known" must not be the same value. NumPy, pycocotools and Pillow are imported
when the first mask is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, cast

from serve_app import errors
from serve_app.client.failures import InvalidAnswer, error_of
from serve_app.client.interop import detections_of, entity_frame, object_frame
from serve_app.client.objects import ObjectResult
from serve_app.client.saved import load_document
from serve_app.schemas.dicts import ResultDict
from serve_app.schemas.documents import ImageDocument, ResultDocument
from serve_app.schemas.events import Role
from serve_app.schemas.verdict import Verdict

if TYPE_CHECKING:
    import pandas
    import supervision


@dataclass(frozen=True)
class ImageResult:
    """One image of a result.

    Args:
        document: the image as the server sent it.
    """

    document: ImageDocument

    @property
    def path(self) -> str:
        """The file's path or name, or the URL, as the caller gave it."""
        return self.document.path

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.document.height, self.document.width

    @property
    def presence(self) -> Mapping[str, float]:
        """The presence score of each entity: the probability that this image shows the entity at all, in [0, 1]."""
        return self.document.presence

    @property
    def overlay(self) -> str | None:
        """A data URI of the image as a JPEG with masks, boxes and labels drawn; None if it was not asked for."""
        return self.document.overlay

    @property
    def error(self) -> errors.GensegError | None:
        """Why segmentation failed on this image; None if it did not."""
        return None if self.document.error is None else error_of(self.document.error)

    @cached_property
    def objects(self) -> tuple[ObjectResult, ...]:
        """The objects that were found, in the server's order; empty if nothing was found.

        Raises:
            GensegError: this image failed, so nothing is known about its objects.
        """
        if (error := self.error) is not None:
            raise error
        if self.document.objects is None:
            raise InvalidAnswer(f"{self.path}: has neither objects nor an error")
        return tuple(ObjectResult(found, self.size_hw) for found in self.document.objects)

    def to_frame(self) -> pandas.DataFrame:
        """Return the objects as a DataFrame of pandas with a row for each object.

        Returns:
            The columns `object_id`, `label`, `score`, `x1`, `y1`, `x2`, `y2` and `area`. The area is the number of
            pixels of the mask (<NA> without a mask).

        Raises:
            ImportError: pandas is not installed.
            GensegError: this image failed, or a mask cannot be decoded.
        """
        frame: pandas.DataFrame = object_frame(self.objects)
        return frame

    def to_supervision(self) -> supervision.Detections:
        """Return the objects as Detections of supervision, for its annotators, filters and metrics.

        Each mask has the image's size, and takes one byte of memory per pixel.

        Returns:
            `xyxy` (N, 4) float32; `mask` (N, H, W) bool, or None if an object has no mask; `confidence` (N,) float32;
            `class_id` (N,) int64, the label's index among the entities of the document, so it is the same in all of its
            images; `class_name` and `object_id` in `data`.

        Raises:
            ImportError: supervision is not installed.
            GensegError: this image failed, or a mask cannot be decoded.
        """
        detections: supervision.Detections = detections_of(self)
        return detections

    def find(self, object_id: str) -> ObjectResult:
        """Return the object with this id. A verdict names objects by their ids.

        Raises:
            ValueError: this image has no such object.
            GensegError: this image failed, so nothing is known about its objects.
        """
        for each in self.objects:
            if each.object_id == object_id:
                return each
        raise ValueError(f"{self.path} has no object {object_id!r}")

    def count(self, entity: str) -> int:
        """Count the objects of one entity in this image.

        Raises:
            ValueError: the entity was not looked for, for example because it is misspelt. Without an error if the
                image has no `presence`.
            GensegError: this image failed, so the number is not known.
        """
        found = sum(each.label == entity for each in self.objects)
        if self.presence and entity not in self.presence:  # `presence` has every entity of the document
            raise unknown_entity(entity, self.presence)
        return found


@dataclass(frozen=True)
class Result:
    """The answer to one request.

    Args:
        document: the whole document as the server sent it. Fields that this version does not know are left out.
    """

    document: ResultDocument

    @classmethod
    def load(cls, source: str | bytes | PathLike[str] | Mapping[str, object]) -> Result:
        """Read a result that `genseg run` wrote, the value of `to_dict`, or a line of a shard of `genseg batch`.

        Args:
            source: the path of a file with one document, the JSON text itself, or the decoded document. Further fields
                (`id`, `columns`, or fields of a newer version) are left out.

        Raises:
            OSError: the file cannot be read.
            InvalidAnswer: it is neither a result document nor a saved error. The message names the first wrong field.
            GensegError: it is a saved error, such as the line of a failed row or the body of an HTTP error. The saved
                error itself is raised.
        """
        return cls(load_document(source))

    @property
    def prompt(self) -> str:
        """The prompt as given."""
        return self.document.prompt

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities that were looked for."""
        return tuple(self.document.entities)

    @property
    def request_id(self) -> str:
        """The request's id, as in the server's log."""
        return self.document.meta.request_id

    @property
    def verdict(self) -> Verdict | None:
        """Whether the generated image shows each thing that the prompt asks for; None without `verdict=True`."""
        return self.document.verdict

    @cached_property
    def contextual(self) -> tuple[ImageResult, ...]:
        """The contextual images, in the order of the request."""
        return tuple(ImageResult(image) for image in self.document.contextual_images)

    @cached_property
    def generated(self) -> ImageResult | None:
        """The generated image; None if none was given."""
        image = self.document.generated_image
        return None if image is None else ImageResult(image)

    @property
    def images(self) -> tuple[ImageResult, ...]:
        """All images: the contextual ones in order, then the generated one if there is one."""
        return self.contextual if self.generated is None else (*self.contextual, self.generated)

    def count(self, entity: str, *, image: int | str | None = None, role: Role | None = None) -> int:
        """Count the objects of one entity in all images, in the images of one role, or in one image.

        Args:
            entity: one of `entities`.
            image: the image's path, or its index: in the images of `role` if that is given, else in `images`.
            role: "generated" or "contextual"; None for both.

        Raises:
            ValueError: the entity was not looked for, or there is no such image.
            GensegError: one of the images failed, so the number is not known.
        """
        if entity not in self.document.entities:
            raise unknown_entity(entity, self.entities)
        return sum(found.label == entity for each in self._chosen(image, role) for found in each.objects)

    def _chosen(self, image: int | str | None, role: Role | None) -> Sequence[ImageResult]:
        if role not in {None, "contextual", "generated"}:
            raise ValueError(f"role: must be 'contextual' or 'generated', not {role!r}")
        generated = () if self.generated is None else (self.generated,)
        images = {None: self.images, "contextual": self.contextual, "generated": generated}[role]
        if image is None:
            return images
        chosen = [
            each for index, each in enumerate(images) if image == (each.path if isinstance(image, str) else index)
        ]
        if not chosen:
            what = f"{role} image" if role else "image"
            paths = ", ".join(each.path for each in images)
            raise ValueError(f"there is no {what} {image!r}; images: {paths or 'none'}")
        return chosen

    def to_frame(self) -> pandas.DataFrame:
        """Return a DataFrame of pandas with a row for each image and entity, like the table of `genseg export`.

        Returns:
            The columns of `schemas.entity_rows.EntityRow`; null is NaN or <NA>. If an image failed, its rows have the
            error's code in `error`, and no count.

        Raises:
            ImportError: pandas is not installed.
            InvalidAnswer: a mask cannot be decoded.
        """
        frame: pandas.DataFrame = entity_frame(self.to_dict())
        return frame

    def to_dict(self) -> ResultDict:
        """Return the document as JSON values, with the keys that the server sent and no others."""
        return cast(ResultDict, self.document.model_dump(mode="json", exclude_unset=True))


def unknown_entity(entity: str, entities: Iterable[str]) -> ValueError:
    """Return the error for an entity that was not looked for. The message lists the entities that were."""
    return ValueError(f"{entity!r} is not one of the entities: {', '.join(entities) or 'there are none'}")
