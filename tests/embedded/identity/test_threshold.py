"""The evaluation writes the threshold into the checkpoint, from the validation split only."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import Dinov2Model

from serve_app.embedded import evaluate
from serve_app.embedded.identity.evaluation import write_threshold
from tests.models import small_identity


def test_the_threshold_stands_in_the_checkpoints_configuration(tmp_path: Path) -> None:
    folder = small_identity.dinov2(tmp_path)
    before = Dinov2Model.from_pretrained(folder).config.to_dict()
    write_threshold(folder, 0.61234)
    after = Dinov2Model.from_pretrained(folder).config.to_dict()
    assert after == before | {"genseg_threshold": 0.612}


def test_the_test_split_does_not_choose_the_threshold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_identity.dinov2(tmp_path)
    code = evaluate.main(["identity", "--checkpoint", str(folder), "--split", "test", "--write-threshold"])
    assert code == 2
    assert "--write-threshold needs --split validation" in capsys.readouterr().err
    assert "genseg_threshold" not in (folder / "config.json").read_text()
