from collections.abc import Callable, Sequence

import pytest

from serve_app.embedded import evaluate, train


@pytest.mark.parametrize("main", [train.main, evaluate.main], ids=["train", "evaluate"])
def test_main_shows_the_options_of_the_named_model(
    main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["segmenter", "--help"])
    assert stopped.value.code == 0
    assert "--font" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["nobody"]], ids=["no model", "unknown model"])
def test_main_refuses_an_unknown_model(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train.main(argv)
    assert stopped.value.code == 2
    assert "segmenter" in capsys.readouterr().err
