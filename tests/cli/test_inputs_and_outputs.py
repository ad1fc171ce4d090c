"""A command checks its prompt, its images and its output path before the work; each error is one line."""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app import __version__
from serve_app.cli import ending, run
from serve_app.cli.main import main
from serve_app.cli.options import CommandError
from serve_app.cli.outputs import check_file, check_folder
from serve_app.cli.prompt import read_prompt
from serve_app.cli.report import named
from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import ImageInput, SegmentRequest
from tests.conftest import png

ROOT = Path(__file__).parents[2]


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes | None) -> None:
    stdin = None if data is None else SimpleNamespace(buffer=io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", stdin)


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"A dog\n", "A dog"),
        (b"  A dog,\r\na \xe7\x8b\x97\r\n\r\n", "A dog,\r\na 狗"),
        (b"\xef\xbb\xbfA dog", "A dog"),
        (b"@a -", "@a -"),
    ],
    ids=["line", "lines", "byte order mark", "marks are text"],
)
def test_a_prompt_comes_from_standard_input_and_from_a_file(
    data: bytes, prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, data)
    assert read_prompt("-", 100) == prompt
    (tmp_path / "p.txt").write_bytes(data)
    assert read_prompt(f"@{tmp_path / 'p.txt'}", 100) == prompt


@pytest.mark.parametrize(
    ("argument", "prompt"),
    [("A dog", "A dog"), ("@@noon a dog", "@noon a dog"), ("a@b", "a@b"), ("--", "--"), ("", ""), ("- a", "- a")],
)
def test_any_other_argument_is_the_prompt_itself(argument: str, prompt: str) -> None:
    assert read_prompt(argument, 100) == prompt


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"a\nb\xff", "line 2 is not UTF-8 text"), (None, "is closed")],
)
def test_a_prompt_that_cannot_be_read_is_named(data: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, data)
    with pytest.raises(CommandError, match=f"^-p -: .*{words}"):
        read_prompt("-", 100)


def test_a_prompt_file_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"^-p @p: No such file or directory; if the prompt itself begins with @, write @@ instead$"
    ):
        read_prompt("@p", 100)
    with pytest.raises(CommandError, match="Is a directory"):
        read_prompt(f"@{tmp_path}", 100)


def test_of_an_endless_prompt_no_more_is_read_than_shows_that_it_is_too_long() -> None:
    assert len(read_prompt("@/dev/zero", 100)) == 404  # and the limit refuses it


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[str]:
    """A folder with `a.png`, over HTTP on a private address."""
    (tmp_path / "a.png").write_bytes(png())
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_images_are_read_from_paths_web_addresses_and_stores(pictures: str, tmp_path: Path) -> None:
    fsspec: Any = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/bucket/b.png", png(seed=1))
    local = str(tmp_path / "a.png")
    signed = f"{pictures}/a.png?X-Signature=s3cret#part".replace("//", "//me:s3cret@")
    args = arguments("-p", "a dog", "-c", local, "memory://bucket/b.png", "-g", signed)
    request = run.read_request(args, AppConfig())
    images = [*request.contextual_images, request.generated_image]
    assert [image and image.name for image in images] == [local, "memory://bucket/b.png", f"{pictures}/a.png"]
    assert [image and image.data for image in images] == [png(), png(seed=1), png()]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{}/none.png?X-Signature=s3cret", "/none.png: the server answered with 404"),
        ("http://127.0.0.1:1/a.png?X-Signature=s3cret", "http://127.0.0.1:1/a.png: "),
        ("nonsense://bucket/a.png", "nonsense:// images cannot be read"),
        ("{}/", "not an image"),
    ],
    ids=["not found", "nobody there", "unknown store", "a page"],
)
def test_an_address_that_gives_no_image_is_named_without_its_secrets(source: str, words: str, pictures: str) -> None:
    with pytest.raises(CommandError) as caught:
        run.read_request(arguments("-p", "a dog", "-g", source.format(pictures)), AppConfig())
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_error_of_the_service_names_the_image_without_its_secrets() -> None:
    request = SegmentRequest(generated_image=ImageInput(url="https://me:s3cret@h/a.png?X-Signature=s3cret"))
    error: Any = {"code": "fetch_failed", "message": "generated_image: answered 403", "field": "generated_image"}
    assert named(error, request) == "https://h/a.png: answered 403"


def test_an_output_is_tried_without_a_trace(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    check_file("-o", target)
    check_folder("--viz-dir", tmp_path / "a" / "b")
    check_folder("--viz-dir", tmp_path)
    assert list(tmp_path.iterdir()) == []
    target.write_text("before")
    check_file("-o", target)
    assert target.read_text() == "before"
    check_file("-o", Path("/dev/null"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/proc/out.json", "cannot be written"),
        ("/nowhere/at/all.json", "there is no folder /nowhere/at"),
        ("{}", "is a folder"),
        ("{}/file/out.json", "there is no folder"),
        ("{}/" + "x" * 250, "File name too long"),
        ("{}/a.png", "is one of the images"),
        ("{}/link.png", "is one of the images"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(path: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "link.png").symlink_to("a.png")
    path = path.format(tmp_path)
    with pytest.raises(CommandError, match=words) as caught:
        check_file("-o", Path(path), [str(tmp_path / "a.png")])
    assert str(caught.value).startswith(f"-o {path}: ")


@pytest.mark.parametrize(
    ("path", "words"),
    [("/proc/viz", "cannot be written"), ("{}/file", "is a file"), ("{}/file/viz", "is a file, not a folder")],
)
def test_a_folder_that_cannot_be_written_is_found_before_the_work(path: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match=words):
        check_folder("--viz-dir", Path(path.format(tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_found_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CommandError, match="Permission denied"):
        check_file("-o", tmp_path / "out.json")
    with pytest.raises(CommandError, match="Permission denied"):
        check_folder("--viz-dir", tmp_path / "viz")


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "-p", "a dog", "-g", "{}/a.png", "-o", "/proc/out.json"],
        ["run", "-p", "a dog", "-g", "{}/a.png", "-o", "{}/out.json", "--viz-dir", "{}/a.png"],
        ["run", "-p", "a dog", "-g", "{}/a.png", "-o", "{}/out.json", "--save-viz", "--config", "{}/config.yaml"],
        ["demo", "-o", "/proc/demo"],
        ["demo", "-o", "{}/a.png"],
        ["demo", "-o", "-"],
    ],
    ids=lambda argv: " ".join(argv),
)
def test_commands_find_it_before_ray_starts(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "config.yaml").write_text(f"output: {{visualization_dir: '{tmp_path}/a.png'}}\n")
    assert main([each.format(tmp_path) for each in argv]) in {1, 2}
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("genseg: -")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "config.yaml"}


def answer() -> Any:
    image = {"path": "a.png", "width": 64, "height": 48, "objects": [], "presence": {"狗": 0.1}, "error": None}
    return {"prompt": "p", "entities": ["狗"], "contextual_images": [], "generated_image": image}


def test_standard_output_takes_the_document_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setattr(run, "segment_locally", lambda *_: answer())
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--quiet"]):
        assert main(["run", "-p", "a dog", "-g", "a.png", "-o", "-", *more]) == 0
        assert json.loads(capsys.readouterr().out) == answer()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("redirect", "words"),
    [(">/dev/full", "standard output: No space left on device"), (">&-", "standard output: is closed")],
)
def test_standard_output_that_takes_nothing_gives_one_line(redirect: str, words: str) -> None:
    script = "import sys; from serve_app.cli import ending; ending.print_out('x')"
    command = f'{sys.executable} -c "{script}" {redirect}'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("redirect", "code", "lines"),
    [
        (">/dev/full", 1, ["genseg: standard output: No space left on device"]),
        (">&-", 0, [f"genseg {__version__}"]),
        ("2>&-", 0, []),
        ("| head -c 1 >/dev/null", 0, []),
        (">/dev/null 2>/dev/full", 0, []),
    ],
)
def test_the_end_of_the_process_is_one_line_whatever_the_streams(redirect: str, code: int, lines: list[str]) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m serve_app --version {redirect}"],
        cwd=ROOT,
        env=buffered,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()) == (code, lines)


def test_text_that_the_terminal_cannot_show_ends_no_command(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    script = "from serve_app.cli import ending; ending.prepare_streams(); print('狗'); ending.print_out('狗')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout == "\\u72d7\n狗\n".encode()
    ending.print_out("狗")
    assert capfdbinary.readouterr().out == "狗\n".encode()


def test_the_end_of_the_process_runs_what_was_registered_and_waits_for_no_thread() -> None:
    script = """
import atexit, threading, time
from serve_app.cli import ending
atexit.register(print, "cleaned up")
threading.Thread(target=time.sleep, args=(600,)).start()
print("done")
ending.end_process(3)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\ncleaned up\n", "")
