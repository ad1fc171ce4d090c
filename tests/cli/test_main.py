"""Wrong usage and wrong input: one line, the right exit code, before Ray or a model starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli.deploy import unplaced
from serve_app.cli.image_files import read_images
from serve_app.cli.main import main
from serve_app.cli.options import CommandError
from serve_app.cli.report import write_json
from serve_app.cli.serve_address import check_port
from serve_app.config.schema import AppConfig
from tests.conftest import png
from tests.documents import result


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    return path


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit code and stderr of a command that must fail without a traceback."""
    code = main(argv)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    return code, err.strip()


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["run"],
        ["run", "-p", "a dog", "-c", "x.png", "--threshold", "2"],
        ["run", "-p", "a dog", "-c", "x.png", "--threshold", "much"],
        ["run", "-p", "a dog", "-c", "x.png", "--dtype", "int3"],
        ["run", "-p", "a dog", "-c", "x.png", "--device", "quantum"],
        ["run", "-p", "a dog", "-c", "x.png", "--nonsense"],
        ["check-config"],
    ],
    ids=lambda argv: " ".join(argv) or "nothing",
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "usage:" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-p", " "], "prompt: empty"),
        (["-p", "x" * 4001], "4001 characters"),
        (["-p", "a dog", "--url", "http://127.0.0.1:1", "--seg-model", "m"], "--seg-model: has no effect with --url"),
        (
            ["-p", "a dog", "--url", "localhost:8000"],
            "--url: localhost:8000 is not a valid http:// or https:// address",
        ),
    ],
    ids=["empty prompt", "long prompt", "model flag with a url", "url that is none"],
)
def test_run_finds_wrong_usage_before_anything_starts(
    flags: list[str], words: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = failure(capsys, "run", "-g", str(picture), *flags)
    assert code == 2
    assert words in message


def test_run_refuses_more_images_than_the_limit(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = failure(capsys, "run", "-p", "a dog", "-c", *[str(picture)] * 17)
    assert (code, message) == (2, "genseg: 17 images are over the limit of 16")


def test_run_names_a_file_whose_name_is_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "caf\udce9.png"
    path.write_bytes(png())
    code, message = failure(capsys, "run", "-p", "a dog", "-g", str(path))
    assert code == 1
    assert "the name is not UTF-8" in message


def test_run_without_an_image_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "run", "-p", "a dog") == (2, "genseg: no image: give -c, -g or both")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "empty"), (b"no image at all", "not an image"), (png()[:60], "")],
    ids=["missing", "empty", "text", "header only"],
)
def test_run_names_a_file_that_is_no_image(
    content: bytes | None, words: str, tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    if words:
        code, line = failure(capsys, "run", "-p", "a dog", "-c", str(picture), "-g", str(bad))
        assert (code, line.startswith(f"genseg: {bad}: ")) == (1, True)
        assert words in line


@pytest.mark.parametrize(
    ("flags", "words"), [(["-c", ""], "an image's path is empty"), (["-g", "{}", "-o", ""], "-o: the path is empty")]
)
def test_run_names_an_empty_path(
    flags: list[str], words: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "-p", "a dog", *(flag.format(picture) for flag in flags)]
    assert failure(capsys, *argv) == (2, f"genseg: {words}")


def test_run_names_a_folder_given_as_image(tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = failure(capsys, "run", "-p", "a dog", "-c", str(picture), str(tmp_path))
    assert code == 1
    assert str(tmp_path) in line


def test_run_names_an_output_that_cannot_be_written(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = failure(capsys, "run", "-p", "a dog", "-c", str(picture), "-o", "/nowhere/at/all.json")
    assert (code, "/nowhere/at" in line) == (1, True)


def test_run_names_a_wrong_key_of_the_configuration(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("segmentation: {treshold: 0.5}\n")
    code, line = failure(capsys, "run", "-p", "a dog", "-c", str(picture), "--config", str(config))
    assert code == 1
    assert "treshold" in line
    assert "threshold" in line


@pytest.mark.parametrize("flag", ["--text-model", "--seg-model"])
def test_run_names_a_checkpoint_that_is_not_there(
    flag: str, tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    code, line = failure(capsys, "run", "-p", "a dog", "-g", str(picture), flag, str(nowhere))
    assert (code, line) == (1, f"genseg: model {nowhere}: there is no such folder")


def test_run_names_an_identity_model_that_is_not_there(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{identity: {{model_name: {nowhere}}}}}\n")
    code, line = failure(capsys, "run", "-p", "a dog", "-g", str(picture), "--config", str(config))
    assert (code, line) == (1, f"genseg: model {nowhere}: there is no such folder")


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ('{"CPU": 0.25}', 'Segmenter asks for {"CPU": 0.5} per replica, but this machine has only {"CPU": 0.25} left'),
        ("{}", 'Segmenter asks for {"CPU": 0.5} per replica, but this machine has only {} left'),
        ('{"CPU": 0.75}', None),
    ],
    ids=["too little", "nothing", "enough: the process is slow to start"],
)
def test_unplaced_tells_lack_of_room_from_slowness(left: str, expected: str | None) -> None:
    # Source: ray.serve._private.deployment_state, the message of a deployment that waits.
    report = (
        "Deployment 'Segmenter' in application 'segmentation' has 1 replicas that have taken more than 10s to be "
        "scheduled. This may be due to waiting for the cluster to auto-scale or for a runtime environment to be "
        f'installed. Resources required for each replica: {{"CPU": 0.5}}, total resources available: {left}. Use '
        "`ray status` for more details."
    )
    assert unplaced(report) == expected


def test_run_by_url_says_that_nobody_answers(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    code, line = failure(capsys, "run", "-p", "a dog", "-c", str(picture), "--url", url)
    assert code == 1
    assert url in line


def test_check_port_names_a_busy_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} on 127.0.0.1 is in use; choose another with --port"):
            check_port("127.0.0.1", port)


def test_check_config_lists_every_fault_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("segmentation:\n  treshold: 0.5\n  mask_threshold: 7\n")
    assert main(["check-config", str(config)]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith(f"{config}:2: ")
    assert err[1].startswith(f"{config}:3: ")


def test_check_config_is_silent_about_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "configs/embedded.yaml"]) == 0
    assert capsys.readouterr().err == ""


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "serve_app", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "genseg")


def test_a_result_goes_through_links_and_into_pipes(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target.json")
    first, second = result("one", ["dog"]), result("two", ["dog"])
    write_json(link, first)
    assert link.is_symlink()
    assert json.loads((tmp_path / "target.json").read_text()) == first
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_json(pipe, second)
    assert json.loads(reader.communicate(timeout=10)[0]) == second
    assert pipe.is_fifo()
    write_json(Path("/dev/null"), first)
    assert Path("/dev/null").is_char_device()


def test_of_a_huge_file_no_more_is_read_than_shows_that_it_is_too_large(tmp_path: Path) -> None:
    config = AppConfig.model_validate({"limits": {"max_image_bytes": 1000}})
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CommandError, match=r"huge\.jpg: .*limit of 1000"):
        read_images([str(huge)], config)
