from pathlib import Path

import pytest
import torch

from serve_app.embedded.runs import LOG_EVERY, RunLog, load_state, save_state


def test_a_saved_state_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "run.pt"
    save_state({"step": 7, "model": {"weight": torch.ones(2)}}, file)
    state = load_state(file, "cpu")
    assert state["step"] == 7
    assert torch.equal(state["model"]["weight"], torch.ones(2))
    assert [path.name for path in file.parent.iterdir()] == ["run.pt"]


def test_a_save_that_fails_keeps_the_earlier_state(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    save_state({"step": 1}, file)
    with pytest.raises(Exception, match="pickle"):
        save_state({"step": 2, "rate": lambda step: step}, file)
    assert load_state(file, "cpu")["step"] == 1


def test_the_log_has_a_line_every_few_steps_with_moving_averages() -> None:
    log = RunLog(first_step=LOG_EVERY, steps=100)
    lines = [
        line for step in range(LOG_EVERY + 1, 2 * LOG_EVERY + 1) for line in log.lines(step, {"loss": float(step)})
    ]
    (line,) = lines
    assert line.startswith(f"step {2 * LOG_EVERY}/100 ")
    average = float(line.rpartition("loss=")[2])
    assert LOG_EVERY + 1 < average < (3 * LOG_EVERY) / 2
