"""Draw overlays in a segmenter replica, only a few at a time, because each needs a canvas in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from serve_app.images import overlay
from serve_app.images.marks import Marks
from serve_app.images.modes import RgbArray
from serve_app.images.palette import entity_colours
from serve_app.masks.steps import Steps
from serve_app.schemas.base import OverlayStyle
from serve_app.schemas.dicts import ObjectDict
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.turns import FairSlots, FairThreads


class OverlayPainter:
    """Draws objects over their images.

    Args:
        threads: draw.
        canvases: limit how many overlays are drawn at the same time.
        metrics: the replica's metrics.
    """

    def __init__(self, threads: FairThreads, canvases: FairSlots, metrics: Metrics) -> None:
        self._threads = threads
        self._canvases = canvases
        self._metrics = metrics

    async def draw(
        self,
        pixels: Callable[[], Awaitable[RgbArray]],
        objects: Sequence[ObjectDict],
        entities: Sequence[str],
        style: OverlayStyle,
        request_id: str,
        marks: Marks | None = None,
    ) -> str:
        """Draw the overlay of one image.

        Args:
            pixels: returns the decoded image, kept or decoded again.
            objects: the objects to draw, with masks as RLE.
            entities: all entities of the image; they determine the colours.
            style: how objects are drawn.
            request_id: the request whose turn of the canvases and threads is used.
            marks: what the verdict says about the image; None draws no verdict.

        Returns:
            A data URI of a JPEG.
        """
        async with self._canvases.hold(request_id):
            steps = _drawn(await pixels(), objects, entities, style, marks)
            with self._metrics.stage("overlay") as drawing:
                drawing.set(objects=len(objects))
                return await self._threads.run_steps(steps, request_id)


def _drawn(
    image: RgbArray, objects: Sequence[ObjectDict], entities: Sequence[str], style: OverlayStyle, marks: Marks | None
) -> Steps[str]:
    drawing = overlay.draw_steps(image, objects, entity_colours(entities), style, marks)
    del image  # frees its memory while the canvas is drawn
    picture = yield from drawing
    yield
    return overlay.overlay_data_uri(picture)
