"""Draws overlays in a segmenter's replica: few canvases at a time, since one is held from step to step."""

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
    """Draws the objects of images over them.

    Args:
        threads: draw.
        canvases: how many may be held.
        metrics: of the replica.
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
        """Draw one image.

        Args:
            pixels: decodes the image, or returns what is kept of it.
            objects: with masks as RLE.
            entities: all of the image; they have the colours.
            style: of the overlay.
            request_id: whose turn it is.
            marks: what a verdict says of the image; None for an overlay without.

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
    del image  # it need not be held while the canvas is
    picture = yield from drawing
    yield
    return overlay.overlay_data_uri(picture)
