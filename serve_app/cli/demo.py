"""`genseg demo`: runs the embedded models on the bundled images; writes JSON, pictures, a table and the verdict."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path

import serve_app.embedded
from serve_app.cli import pictures
from serve_app.cli.console import Progress
from serve_app.cli.ending import print_out
from serve_app.cli.options import CommandError
from serve_app.cli.outputs import STANDARD_OUTPUT, check_file, check_folder
from serve_app.cli.report import as_json, say_verdict, summary, write_json
from serve_app.cli.run import segment_locally
from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import ImageInput, SegmentRequest

DEFAULT_FOLDER = "results/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-o", "--output", default=DEFAULT_FOLDER, metavar="DIR", help="Folder for the JSON file and the pictures."
    )
    parser.add_argument("--quiet", action="store_true", help="Print only the JSON, on standard output.")


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Raises:
        GensegError, CommandError: with one line for the user.
    """
    progress = Progress(args.quiet)
    folder = Path(args.output)
    target = folder / "segmentation.json"
    if args.output == STANDARD_OUTPUT:
        raise CommandError("-o -: must be a folder; --quiet also prints the JSON on standard output", usage=True)
    check_folder("-o", folder)
    if folder.is_dir():
        check_file("-o", target)
    request = bundled_request().model_copy(update={"verdict": True})
    config = AppConfig()
    progress.say(f"prompt: {request.prompt}")
    document = segment_locally(request, config, progress)
    with suppress(OSError):  # `write_json` reports it better
        folder.mkdir(parents=True, exist_ok=True)
    write_json(target, document)
    written = pictures.write_pictures(document, request, config, folder, compare=True)
    for path in (target, *written):
        progress.say(f"wrote {path}")
    print_out(as_json(document) if args.quiet else summary(document))
    say_verdict(document, progress)
    return 0


def bundled_request() -> SegmentRequest:
    """Return the prompt and images that ship inside the package."""
    folder = Path(serve_app.embedded.__file__).parent / "images"
    story = json.loads((folder / "demo.json").read_text())

    def image(name: str) -> ImageInput:
        return ImageInput(data=(folder / name).read_bytes(), name=name)

    return SegmentRequest(
        prompt=story["prompt"],
        contextual_images=[image(name) for name in story["contextual"]],
        generated_image=image(story["generated"]),
    )
