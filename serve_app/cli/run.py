"""`genseg run`: the job from the shell, on a graph of its own or on a running service."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from serve_app.cli import pictures, request_flags
from serve_app.cli.console import Progress
from serve_app.cli.ending import print_out
from serve_app.cli.image_files import read_images
from serve_app.cli.local_graph import PATIENCE_S, local_graph
from serve_app.cli.options import CommandError
from serve_app.cli.outputs import STANDARD_OUTPUT, check_file, check_folder
from serve_app.cli.prompt import read_prompt
from serve_app.cli.report import as_json, follow, named, say_verdict, summary, write_json
from serve_app.client import Client
from serve_app.client.address import read_base_url
from serve_app.client.answers import EntitiesEvent, Event, ImageEvent
from serve_app.config.files import app_config_from, load_file
from serve_app.config.schema import AppConfig
from serve_app.config.values import known_device
from serve_app.errors import GensegError
from serve_app.schemas.base import invalid_request
from serve_app.schemas.counted import counted
from serve_app.schemas.dicts import DroppedDict, ImageDict, ResultDict, error_body, images_of
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.checked_request import check

DEFAULT_OUTPUT = "segmentation_output.json"
TIMEOUT_DEFAULT = "Default: a day with models of its own, 60 with --url."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-p",
        "--prompt",
        help="the image-generation prompt; - reads standard input, @FILE a file, and @@ stands for a first @; may be "
        "left out with --entities",
    )
    parser.add_argument(
        "-c",
        "--contextual",
        nargs="+",
        action="extend",
        default=[],
        metavar="IMG",
        help="contextual images: paths, http(s) addresses, or s3://, gs://, … with fsspec's package for them",
    )
    parser.add_argument("-g", "--generated", metavar="IMG", help="the generated image, likewise; -c, -g or both")
    parser.add_argument(
        "-o", "--output", default=DEFAULT_OUTPUT, metavar="OUT.json", help="the JSON file; - is standard output"
    )
    parser.add_argument("--config", metavar="FILE", help="configuration (YAML; default: the embedded models)")
    models = "hub name, folder, or embedded (default: the configuration's, embedded)"
    parser.add_argument("--text-model", metavar="M", help=f"the model that reads the prompt: {models}")
    parser.add_argument("--seg-model", metavar="M", help=f"the model that segments: {models}")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="of both models (default: the configuration's, auto)",
    )
    parser.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="auto, cpu, cuda or cuda:N, for both models (default: the configuration's, auto)",
    )
    parser.add_argument("--save-viz", action="store_true", help="write an annotated picture of every image")
    parser.add_argument(
        "--viz-dir",
        metavar="DIR",
        help="where they go, and write them (default: the configuration's, outputs/visualizations)",
    )
    parser.add_argument(
        "--outline", action="store_true", help="draw outlines only; a fill would hide the objects' own colours"
    )
    parser.add_argument("--compare", action="store_true", help="write them, and one sheet with all images side by side")
    parser.add_argument("--quiet", action="store_true", help="print only the JSON, on standard output")
    parser.add_argument("--url", metavar="URL", help="use a running service instead of models of its own")
    parser.add_argument("--token", metavar="TOKEN", help="bearer token for --url")
    request_flags.add_flags(parser, "options of the request", defaults={"timeout_s": TIMEOUT_DEFAULT})
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
    if args.outline and args.overlay_style == "fill":
        raise CommandError("--outline: contradicts --overlay-style fill", usage=True)
    if not args.contextual and args.generated is None:
        raise CommandError("no image: give -c, -g or both", usage=True)
    if args.url is not None:
        read_address(args.url)
        _refuse_model_flags(args)
    elif args.token is not None:
        raise CommandError("--token: has no effect without --url", usage=True)
    config = config_from(args)
    draws = bool(args.save_viz or args.viz_dir or args.compare or config.output.save_visualizations)
    folder = Path(args.viz_dir or config.output.visualization_dir)
    _check_outputs(args, folder if draws else None)
    request = read_request(args, config)
    sent = pictures.with_masks(request) if draws else request
    document = segment_locally(sent, config, progress) if args.url is None else segment_by_url(args, sent, progress)
    answer = document if sent is request else pictures.without_masks(document)
    _write(args, answer, progress)
    if draws:
        written = pictures.write_pictures(document, request, config, folder, compare=args.compare)
        progress.say(f"wrote {counted(len(written), 'pictures')} to {folder}")
    say_verdict(document, progress)
    return 1 if any(image["error"] for image in images_of(document)) else 0


def _write(args: argparse.Namespace, document: ResultDict, progress: Progress) -> None:
    """Write the JSON, and a table for people; where standard output is for the JSON, nothing else is written there."""
    on_stdout = args.output == STANDARD_OUTPUT
    if not on_stdout:
        write_json(Path(args.output), document)
        progress.say(f"wrote {args.output}")
    print_out(as_json(document) if on_stdout or args.quiet else summary(document))


def _refuse_model_flags(args: argparse.Namespace) -> None:
    """A running service has its models: flags that would change nothing are an error."""
    for flag in ("text_model", "seg_model", "dtype", "device"):
        if getattr(args, flag) is not None:
            raise CommandError(f"--{flag.replace('_', '-')}: has no effect with --url, the service has its model", True)


def _check_outputs(args: argparse.Namespace, folder: Path | None) -> None:
    images = [*args.contextual, *([] if args.generated is None else [args.generated])]
    if not args.output:
        raise CommandError("-o: the path is empty", usage=True)
    if args.output != STANDARD_OUTPUT:
        check_file("-o", Path(args.output), images)
    if folder is not None:
        check_folder("--viz-dir", folder)


def read_request(args: argparse.Namespace, config: AppConfig) -> SegmentRequest:
    """Read every image and check what can be checked here; what is wrong is named before anything is started.

    Raises:
        CommandError: the prompt or an image cannot be read, or a limit is passed.
    """
    prompt = "" if args.prompt is None else read_prompt(args.prompt, config.limits.max_prompt_chars)
    images = [*args.contextual, *([] if args.generated is None else [args.generated])]
    read = read_images(images, config)
    # A service has thresholds of its own; those of a file that is given count more, and those of flags most.
    options = request_flags.given(args)
    if args.outline:
        options["overlay_style"] = "outline"
    if args.config:
        defaults = config.segmentation
        options = {"threshold": defaults.threshold, "mask_threshold": defaults.mask_threshold, **options}
    try:
        request = SegmentRequest(
            prompt=prompt,
            contextual_images=read[: len(args.contextual)],
            generated_image=None if args.generated is None else read[-1],
            **options,
        )
        check(request, config)
        return request
    except ValidationError as error:
        raise CommandError(invalid_request(error).message, usage=True) from None
    except GensegError as error:
        raise CommandError(error.message, usage=True) from None


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
