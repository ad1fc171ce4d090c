"""`genseg run`: the job from the shell, on a graph of its own or on a running service."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from serve_app.cli import pictures, request_flags
from serve_app.cli.console import Progress
from serve_app.cli.local_graph import PATIENCE_S, local_graph
from serve_app.cli.options import CommandError
from serve_app.cli.report import as_json, counted, follow, named, summary, write_json
from serve_app.client import Client
from serve_app.client.address import read_base_url
from serve_app.client.answers import EntitiesEvent, Event, ImageEvent
from serve_app.config.files import app_config_from, load_file
from serve_app.config.schema import AppConfig, known_device
from serve_app.errors import GensegError
from serve_app.images import decoding
from serve_app.schemas.base import invalid_request
from serve_app.schemas.dicts import DroppedDict, ImageDict, ResultDict, error_body, images_of
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.serving.checked_request import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("-p", "--prompt", help="the image-generation prompt; may be left out with --entities")
    parser.add_argument("-c", "--contextual", nargs="+", action="extend", default=[], metavar="IMG")
    parser.add_argument("-g", "--generated", metavar="IMG", help="the generated image")
    parser.add_argument("-o", "--output", default="segmentation_output.json", metavar="OUT.json")
    parser.add_argument("--config", metavar="FILE", help="configuration (YAML)")
    parser.add_argument("--text-model", metavar="M", help="hub name, folder, or embedded")
    parser.add_argument("--seg-model", metavar="M", help="hub name, folder, or embedded")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], help="of both models")
    parser.add_argument("--device", type=device, metavar="D", help="auto, cpu, cuda or cuda:N, for both models")
    parser.add_argument("--save-viz", action="store_true", help="write an annotated picture of every image")
    parser.add_argument("--viz-dir", metavar="DIR", help="where they go (default: the configuration's); as --save-viz")
    parser.add_argument("--compare", action="store_true", help="write one sheet with all images side by side")
    parser.add_argument("--quiet", action="store_true", help="print only the JSON, on stdout")
    parser.add_argument("--url", metavar="URL", help="use a running service instead of a graph of its own")
    parser.add_argument("--token", metavar="TOKEN", help="bearer token for --url")
    request_flags.add_flags(parser, "options of the request")
    parser.set_defaults(refuse=parser.error)


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
    if args.prompt is None and args.entities is None:
        args.refuse("the following arguments are required: -p/--prompt, or --entities")
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
    keep_overlays = request.overlays
    request = request.model_copy(update={"overlays": keep_overlays or (draws and pictures.need_overlays(request))})
    document = (
        segment_locally(request, config, progress) if args.url is None else segment_by_url(args, request, progress)
    )
    overlays = pictures.take_overlays(document, keep=keep_overlays)
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
    return 1 if any(image["error"] for image in images_of(document)) else 0


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
    options = request_flags.given(args)
    if args.config:
        defaults = config.segmentation
        options = {"threshold": defaults.threshold, "mask_threshold": defaults.mask_threshold, **options}
    try:
        request = SegmentRequest(
            prompt=args.prompt or "", contextual_images=contextual, generated_image=generated, **options
        )
        check(request, config)
        return request
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


def segment_locally(request: SegmentRequest, config: AppConfig, progress: Progress) -> ResultDict:
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


def segment_by_url(args: argparse.Namespace, request: SegmentRequest, progress: Progress) -> ResultDict:
    """Run the job on a running service."""
    with Client(args.url, token=args.token) as client:
        stream = client.segment_stream(
            request.prompt, request.contextual_images, request.generated_image, **request.given()
        )
        try:
            return follow(map(_event, stream), request, progress)
        except GensegError as error:
            raise CommandError(named(error_body(error), request)) from None


def _event(event: Event) -> EventDict:
    """Write the client's event as a graph of one's own does."""
    if isinstance(event, EntitiesEvent):
        dropped: list[DroppedDict] = [{"entity": each.entity, "reason": each.reason} for each in event.dropped]
        return {"event": "entities", "entities": [*event.entities], "dropped": dropped}
    if isinstance(event, ImageEvent):
        image = cast(ImageDict, event.image.document.model_dump(exclude_unset=True))
        return {"event": "image", "role": event.role, "index": event.index, "image": image}
    return {"event": "result", "result": event.result.to_dict()}
