"""`genseg run`: the job from the shell, on a graph of its own or on a running service."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serve_app.cli import pictures
from serve_app.cli.console import Progress
from serve_app.cli.local_graph import PATIENCE_S, local_graph
from serve_app.cli.options import CommandError, fraction, seconds
from serve_app.cli.report import as_json, counted, document_images, follow, image_line, named, summary, write_json
from serve_app.client import Client
from serve_app.client.address import read_base_url
from serve_app.client.answers import EntitiesEvent, ImageEvent
from serve_app.config.files import app_config_from, load_file
from serve_app.config.schema import AppConfig, known_device
from serve_app.errors import GensegError
from serve_app.images import decoding
from serve_app.schemas.base import invalid_request
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.serving.checked_request import check_request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("-p", "--prompt", required=True, help="the image-generation prompt")
    parser.add_argument("-c", "--contextual", nargs="+", action="extend", default=[], metavar="IMG")
    parser.add_argument("-g", "--generated", metavar="IMG", help="the generated image")
    parser.add_argument("-o", "--output", default="segmentation_output.json", metavar="OUT.json")
    parser.add_argument("--config", metavar="FILE", help="configuration (YAML)")
    parser.add_argument("--text-model", metavar="M", help="hub name, folder, or embedded")
    parser.add_argument("--seg-model", metavar="M", help="hub name, folder, or embedded")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], help="of both models")
    parser.add_argument("--device", type=device, metavar="D", help="auto, cpu, cuda or cuda:N, for both models")
    parser.add_argument("--threshold", type=fraction, metavar="T", help="lowest score of a listed object, 0 to 1")
    parser.add_argument("--mask-threshold", type=fraction, metavar="T", help="lowest probability of a mask's pixel")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="give up after so many seconds")
    parser.add_argument("--save-viz", action="store_true", help="write an annotated picture of every image")
    parser.add_argument("--viz-dir", metavar="DIR", help="where they go (default: the configuration's); as --save-viz")
    parser.add_argument("--compare", action="store_true", help="write one sheet with all images side by side")
    parser.add_argument("--quiet", action="store_true", help="print only the JSON, on stdout")
    parser.add_argument("--url", metavar="URL", help="use a running service instead of a graph of its own")
    parser.add_argument("--token", metavar="TOKEN", help="bearer token for --url")


def device(text: str) -> str:
    """Read the name of a device."""
    try:
        return known_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def config_from(args: argparse.Namespace) -> AppConfig:
    """Read `--config` and lay the flags that name models, dtype and device over it.

    Raises:
        ConfigError: the file is wrong.
    """
    config = load_file(args.config).app if args.config else AppConfig()
    values = config.model_dump()
    parser, segmenter = values["models"]["text_parser"], values["models"]["segmentation"]
    for section, key, value in (
        (parser, "model_name", args.text_model),
        (parser, "dtype", args.dtype),
        (parser, "device_map", args.device),
        (segmenter, "model_name", args.seg_model),
        (segmenter, "dtype", args.dtype),
        (segmenter, "device", args.device),
    ):
        if value is not None:
            section[key] = value
    return app_config_from(values)


def run(args: argparse.Namespace) -> int:
    """Do the job.

    Raises:
        GensegError, CommandError: one line for the user.
    """
    progress = Progress(args.quiet)
    # Everything that can be wrong with the command line is found before Ray or a model starts.
    if not args.contextual and args.generated is None:
        raise CommandError("no image: give -c, -g or both", usage=True)
    if args.url is not None:
        read_address(args.url)
        _refuse_model_flags(args)
    config = config_from(args)
    request = read_request(args, config)
    output = Path(args.output)
    _check_output(output)
    draws = bool(args.save_viz or args.viz_dir or args.compare or config.output.save_visualizations)
    request = request.model_copy(update={"overlays": draws and pictures.need_overlays(request)})
    document = (
        segment_locally(request, config, progress) if args.url is None else segment_by_url(args, request, progress)
    )
    overlays = pictures.take_overlays(document)
    write_json(output, document)
    if draws:
        folder = Path(args.viz_dir or config.output.visualization_dir)
        written = pictures.write_pictures(document, request, overlays, config, folder, compare=args.compare)
        progress.say(f"wrote {counted(len(written), 'picture')} to {folder}")
    if args.quiet:
        print(as_json(document))
    else:
        progress.say(f"wrote {output}")
        print(summary(document))
    return 1 if any(image["error"] for image in document_images(document)) else 0


def _refuse_model_flags(args: argparse.Namespace) -> None:
    """A running service has its models: flags that would change nothing are an error."""
    for flag in ("text_model", "seg_model", "dtype", "device"):
        if getattr(args, flag) is not None:
            raise CommandError(f"--{flag.replace('_', '-')}: has no effect with --url, the service has its model", True)


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise CommandError(f"-o {output}: is a folder")
    if not output.resolve().parent.is_dir():
        raise CommandError(f"-o {output}: there is no folder {output.resolve().parent}")


def read_request(args: argparse.Namespace, config: AppConfig) -> SegmentRequest:
    """Read every image and check what can be checked here; what is wrong is named before anything is started.

    Raises:
        CommandError: an image cannot be read, or a limit is passed.
    """
    contextual = [read_image(path, config) for path in args.contextual]
    generated = None if args.generated is None else read_image(args.generated, config)
    # A service has thresholds of its own; those of a file that is given count more, and those of flags most.
    defaults = config.segmentation if args.config else None
    try:
        request = SegmentRequest(
            prompt=args.prompt,
            contextual_images=contextual,
            generated_image=generated,
            threshold=args.threshold if args.threshold is not None or defaults is None else defaults.threshold,
            mask_threshold=(
                args.mask_threshold if args.mask_threshold is not None or defaults is None else defaults.mask_threshold
            ),
            timeout_s=args.timeout,
        )
        return check_request(request, config)
    except ValidationError as error:
        raise CommandError(invalid_request(error).message, usage=True) from None
    except GensegError as error:
        raise CommandError(error.message, usage=True) from None


def read_image(path: str, config: AppConfig) -> ImageInput:
    """Read one image file; a URL is left to the service.

    Raises:
        CommandError: it cannot be read, or is not an image.
    """
    try:
        image = ImageInput.from_file(path, config.limits.max_image_bytes)
        if isinstance(image.data, bytes):
            decoding.read_header(image.data, config.limits)
        return image
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    except GensegError as error:
        raise CommandError(f"{path}: {error.message}") from None
    except ValidationError:
        raise CommandError(f"{path!r}: the name is not UTF-8, or too long") from None


def segment_locally(request: SegmentRequest, config: AppConfig, progress: Progress) -> dict[str, Any]:
    """Start a graph, run the job, stop the graph."""
    with local_graph(config, progress) as handle:
        started = time.monotonic()
        if request.timeout_s is None:
            request = request.model_copy(update={"timeout_s": PATIENCE_S})
        events: Any = handle.options(stream=True).segment_stream.remote(request)  # Ray's type allows one answer, too
        document = follow(events, request, progress)
        progress.say(f"done in {time.monotonic() - started:.2f} s; stopping")
    return document


def read_address(url: str) -> None:
    """Check the address of a service.

    Raises:
        CommandError: it is not a valid http:// or https:// address.
    """
    try:
        read_base_url(url)
    except GensegError as error:
        raise CommandError(f"--url: {error.message.removeprefix('base_url: ')}", usage=True) from None


def segment_by_url(args: argparse.Namespace, request: SegmentRequest, progress: Progress) -> dict[str, Any]:
    """Run the job on a running service."""
    timeout = {} if args.timeout is None else {"timeout_s": args.timeout}
    with Client(args.url, token=args.token, **timeout) as client:
        done = 0
        document: dict[str, Any] | None = None
        stream = client.segment_stream(
            request.prompt,
            request.contextual_images,
            request.generated_image,
            **request.model_dump(include={"threshold", "mask_threshold", "overlays"}, exclude_none=True),
        )
        try:
            for event in stream:
                if isinstance(event, EntitiesEvent):
                    progress.say(f"entities: {', '.join(event.entities) or 'none'}")
                elif isinstance(event, ImageEvent):
                    done += 1
                    progress.say(image_line(done, request, event.image.document.model_dump()))
                else:
                    document = event.result.to_dict()
        except GensegError as error:
            raise CommandError(named({"field": error.field, "message": error.message}, request)) from None
    assert document is not None  # the stream ends with a result or raises
    return document
