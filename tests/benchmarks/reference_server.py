"""The plain server that the HTTP benchmark compares with: one process, FastAPI, the reference loop.

    python -m tests.benchmarks.reference_server --port 8123 --threads 2

Takes the same multipart request as ours and answers with the entities and each image's objects. Written as people
write it: a `def` endpoint, which FastAPI runs in its thread pool, and a lock around the models, since `generate`
keeps state in the model. The forward uses every core through torch's own threads.
"""

from __future__ import annotations

import argparse
import io
import threading
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import FastAPI, Form, UploadFile
from PIL import Image

from serve_app.config.models import EMBEDDED
from serve_app.models import locations
from tests.benchmarks.reference_loop import ReferenceParser, ReferenceSegmenter


def make_app(parser: ReferenceParser, segmenter: ReferenceSegmenter) -> FastAPI:
    """Build the app around loaded models."""
    app = FastAPI()
    models = threading.Lock()

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/segment")
    def segment(prompt: Annotated[str, Form()], contextual: list[UploadFile], generated: UploadFile) -> dict[str, Any]:
        pictures = [Image.open(io.BytesIO(part.file.read())).convert("RGB") for part in (*contextual, generated)]
        with models:
            entities = parser.entities(prompt)
            found = [segmenter.segment_all(picture, entities) for picture in pictures]
        documents = [
            {"width": picture.width, "height": picture.height, "objects": objects}
            for picture, objects in zip(pictures, found, strict=True)
        ]
        return {"entities": entities, "contextual_images": documents[:-1], "generated_image": documents[-1]}

    return app


def main() -> None:
    """Load the embedded models and serve until killed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--threads", type=int, required=True, help="torch threads")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    app = make_app(
        ReferenceParser.load(locations.resolve(EMBEDDED, "parser")),
        ReferenceSegmenter.load(locations.resolve(EMBEDDED, "segmenter")),
    )
    uvicorn.run(app, host="127.0.0.1", port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
