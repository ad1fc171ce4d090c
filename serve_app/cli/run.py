"""`genseg run`: runs one request from the shell, on models that it starts or on a running service."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serve_app.cli import pictures, request_flags
from serve_app.cli.console import Progress
from serve_app.cli.ending import print_out
from serve_app.cli.image_files import read_images
from serve_app.cli.local_graph import PATIENCE_S, local_graph
from serve_app.cli.options import CommandError
from serve_app.cli.outputs import STANDARD_OUTPUT, check_file, check_folder
from serve_app.cli.prompt import read_prompt
from serve_app.cli.remote_run import read_address, segment_by_url
from serve_app.cli.report import as_json, follow, say_verdict, summary, write_json
from serve_app.config.files import app_config_from, load_file
from serve_app.config.schema import AppConfig
from serve_app.config.values import known_device
from serve_app.errors import GensegError
from serve_app.schemas.base import invalid_request
from serve_app.schemas.counted import counted
from serve_app.schemas.dicts import ResultDict, images_of
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.checked_request import check

DEFAULT_OUTPUT = "segmentation_output.json"
TIMEOUT_DEFAULT = "Default: 60 with --url, else a day."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-p",
        "--prompt",
        help="The prompt of the image generator; - reads it from standard input, @FILE from a file. If the "
        "prompt itself begins with @, write @@ instead. Not needed with --entities.",
    )
    parser.add_argument(
        "-c",
        "--contextual",
        nargs="+",
        action="extend",
        default=[],
        metavar="IMG",
        help="Contextual (reference) images, in order: paths, http(s) addresses, or addresses of stores "
        "(s3://, gs://, …) if fsspec's package for them is installed.",
    )
    parser.add_argument(
        "-g", "--generated", metavar="IMG", help="The generated image, in the same form. Give -c, -g or both."
    )
    parser.add_argument(
        "-o", "--output", default=DEFAULT_OUTPUT, metavar="OUT.json", help="The JSON file; - is standard output."
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="Configuration file (YAML): models, limits, thresholds. Default: the embedded models.",
    )
    parser.add_argument("--quiet", action="store_true", help="Print only the JSON, on standard output.")
    request_flags.add_flags(parser, "options of the request", defaults={"timeout_s": TIMEOUT_DEFAULT})
    _add_picture_flags(parser)
    _add_model_flags(parser)
    service = parser.add_argument_group("a running service")
    service.add_argument(
        "--url", metavar="URL", help="Use the service at this address, such as http://127.0.0.1:8000; start no models."
    )
    service.add_argument("--token", metavar="TOKEN", help="The bearer token, if the service asks for one.")
    parser.set_defaults(refuse=parser.error)


def _add_picture_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--save-viz", action="store_true", help="Write an annotated picture of every image.")
    group.add_argument(
        "--viz-dir",
        metavar="DIR",
        help="Write the pictures into this folder. Default: the configuration's (outputs/visualizations).",
    )
    group.add_argument(
        "--compare", action="store_true", help="Write the pictures, and one sheet with all images side by side."
    )
    group.add_argument(
        "--outline",
        action="store_true",
        help="Draw only outlines, so that the objects keep their colours; short for --overlay-style outline.",
    )


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models (without --url)")
    models = "a hub name, a folder, or embedded. Default: the configuration's (embedded)."
    group.add_argument("--text-model", metavar="M", help=f"The model that reads the prompt: {models}")
    group.add_argument("--seg-model", metavar="M", help=f"The model that segments: {models}")
    group.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="Data type of these two models. Default: the configuration's (auto).",
    )
    group.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="Device of these two models: auto, cpu, cuda or cuda:N. Default: the configuration's (auto).",
    )


def device(text: str) -> str:
    """Read the name of a device, for argparse.

    Raises:
        ArgumentTypeError: it is not the name of a device.
    """
    try:
        return known_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def config_from(args: argparse.Namespace) -> AppConfig:
    """Read `--config`, and apply the flags for models, dtype and device to it.

    Raises:
        ConfigError: the file is wrong, or a flag does not fit it.
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
    """Run one request.

    Returns:
        The exit code: 1 if segmentation failed on an image.

    Raises:
        GensegError, CommandError: with one line for the user.
    """
    progress = Progress(args.quiet)
    # Everything that can be wrong with the command line is checked before Ray or a model starts.
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
    if not draws and not args.overlays and (args.outline or args.overlay_style):
        flag = "--outline" if args.outline else "--overlay-style"
        progress.say(f"{flag}: has no effect without pictures; add --save-viz or --overlays")
    request = read_request(args, config)
    sent = pictures.with_masks(request) if draws else request
    document = (
        segment_locally(sent, config, progress)
        if args.url is None
        else segment_by_url(args.url, args.token, sent, progress)
    )
    answer = document if sent is request else pictures.without_masks(document)
    _write(args, answer, progress)
    if draws:
        written = pictures.write_pictures(document, request, config, folder, compare=args.compare)
        progress.say(f"wrote {counted(len(written), 'pictures')} to {folder}")
    say_verdict(document, progress)
    return 1 if any(image["error"] for image in images_of(document)) else 0


def _write(args: argparse.Namespace, document: ResultDict, progress: Progress) -> None:
    """Write the JSON, and print a table unless the JSON goes to standard output."""
    on_stdout = args.output == STANDARD_OUTPUT
    if not on_stdout:
        write_json(Path(args.output), document)
        progress.say(f"wrote {args.output}")
    print_out(as_json(document) if on_stdout or args.quiet else summary(document))


def _refuse_model_flags(args: argparse.Namespace) -> None:
    """Refuse flags that name models or devices, because a running service has its own."""
    for flag in ("text_model", "seg_model", "dtype", "device"):
        if getattr(args, flag) is not None:
            raise CommandError(
                f"--{flag.replace('_', '-')}: has no effect with --url; the service has its own models", True
            )


def _check_outputs(args: argparse.Namespace, folder: Path | None) -> None:
    images = [*args.contextual, *([] if args.generated is None else [args.generated])]
    if not args.output:
        raise CommandError("-o: the path is empty", usage=True)
    if args.output != STANDARD_OUTPUT:
        check_file("-o", Path(args.output), images)
    if folder is not None:
        check_folder("--viz-dir", folder)


def read_request(args: argparse.Namespace, config: AppConfig) -> SegmentRequest:
    """Read the prompt and the images, and check the request as the service will.

    Raises:
        CommandError: the prompt or an image cannot be read, or the request is wrong or over a limit.
    """
    prompt = "" if args.prompt is None else read_prompt(args.prompt, config.limits.max_prompt_chars)
    images = [*args.contextual, *([] if args.generated is None else [args.generated])]
    read = read_images(images, config)
    # A flag's threshold overrides --config, which overrides the service's own threshold.
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
    """Start a graph, run the request on it, and stop the graph.

    Raises:
        CommandError: the request failed.
        GensegError: the graph cannot be started.
    """
    with local_graph(config, progress) as handle:
        started = time.monotonic()
        if request.timeout_s is None:
            request = request.model_copy(update={"timeout_s": PATIENCE_S})
        # Any, because Ray's type also allows a single answer.
        events: Any = handle.options(stream=True).segment_stream.remote(request)
        document = follow(events, request, progress)
        progress.say(f"done in {time.monotonic() - started:.2f} s; stopping")
    return document
