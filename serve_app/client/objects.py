"""The class of an object that was found in an image. Its mask is decoded on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_app.client.failures import InvalidAnswer
from serve_app.schemas.documents import ObjectDocument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ObjectResult:
    """One object that was found in an image.

    Args:
        document: the object as the server sent it.
        size_hw: height and width of its image, in pixels.
    """

    document: ObjectDocument
    size_hw: tuple[int, int]

    @property
    def object_id(self) -> str:
        """The object's id, such as `red sofa_0`; unique within its image."""
        return self.document.object_id

    @property
    def label(self) -> str:
        """The entity that this object is."""
        return self.document.label

    @property
    def score(self) -> float:
        """The detection score, in [0, 1]."""
        return self.document.score

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """The box `(x1, y1, x2, y2)` in pixels of the image as given, with the origin at the top left."""
        x1, y1, x2, y2 = self.document.bbox
        return x1, y1, x2, y2

    @property
    def has_mask(self) -> bool:
        """Whether the server sent a mask; False if the request said `mask_format="none"`."""
        keys = (name for name in ObjectDocument.model_fields if name.startswith("mask_"))
        return any(getattr(self.document, key) is not None for key in keys)

    def mask(self) -> NDArray[np.bool_]:
        """Decode the mask from any of the mask formats.

        Returns:
            (H, W) bool of the image's size, True on the object; a new array at each call.

        Raises:
            ValueError: the server sent no mask (`mask_format="none"`).
            InvalidAnswer: the mask cannot be decoded, or does not have the image's size.
        """
        from serve_app.masks.formats import png_pixels, read_mask
        from serve_app.masks.rle import decode_rle

        try:
            item = self.document.model_dump()
            if (pixels := png_pixels(item, self.size_hw)) is not None:
                return pixels
            rle = read_mask(item, self.size_hw)
            if rle is not None and (rle["size"][0], rle["size"][1]) == self.size_hw:
                return decode_rle(rle)
        except ValueError as error:
            raise InvalidAnswer(f"{self.object_id}: the mask cannot be decoded: {error}") from None
        if rle is None:
            raise ValueError(f"{self.object_id} has no mask, because the request said mask_format='none'")
        # An RLE of another size is not decoded: it may state any size, and decoding would allocate that much memory.
        (height, width), (image_height, image_width) = rle["size"], self.size_hw
        raise InvalidAnswer(
            f"{self.object_id}: the mask has {width}x{height} pixels, but its image has {image_width}x{image_height}"
        )
