"""Training that is stopped: what it keeps, what it says, and that a resumed run equals one without a stop."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import caflow_train, command, started
from test_trainer import assert_same_checkpoint, log_of, short_recipe, write_recipe

from caflow_training import checkpoint, trainer
from caflow_training.crop_sampler import CropSampler
from caflow_training.objective import AveragedWeights
from caflow_training.progress import LOG

pytestmark = pytest.mark.usefixtures("heeding_ctrl_c")


@pytest.fixture(scope="module")
def whole(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run without a stop: 14 steps, checkpoints after 4, 8, 12, validations after 6, 12 and 14."""
    out = tmp_path_factory.mktemp("whole") / "out"
    trainer.train(short_recipe(), photographs, out)
    return out


def then_stop(function: Callable[..., Any], call: int, number: signal.Signals) -> Callable[..., Any]:
    """Return the function, which sends this process a signal after its `call`-th call, counted from 1."""
    calls = 0

    def calling(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        result = function(*arguments, **options)
        if calls == call:
            os.kill(os.getpid(), number)
        return result

    return calling


@pytest.mark.parametrize(
    ("place", "name", "call", "number", "saved"),
    [
        (AveragedWeights, "update", 2, signal.SIGINT, 2),  # in a step, before the first checkpoint
        (AveragedWeights, "update", 9, signal.SIGTERM, 9),  # between checkpoints
        pytest.param(trainer, "validate", 1, signal.SIGINT, 6, marks=pytest.mark.full),
        pytest.param(trainer, "validate", 3, signal.SIGTERM, 14, marks=pytest.mark.full),  # the last one
        (CropSampler, "batch", 1, signal.SIGINT, None),  # of the validation, before the first step
    ],
)
def test_a_stopped_run_resumes_to_the_last_bit(
    place: Any,
    name: str,
    call: int,
    number: signal.Signals,
    saved: int | None,
    whole: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = [write_recipe(tmp_path / "recipe.toml"), "--data", photographs, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, then_stop(getattr(place, name), call, number))
        stopped = caflow_train(*line)
    way = "no checkpoint was written" if saved is None else f"the checkpoint of step {saved} is kept"
    assert (stopped.returncode, way in stopped.stderr.splitlines()[-1]) == (128 + number, True)
    resumed = caflow_train(*line, code=0)
    assert (f"resuming from step {saved} of " in resumed.stderr) == (saved not in (None, 14))
    assert_same_checkpoint(whole / "last.pt", tmp_path / "out" / "last.pt")
    assert log_of(tmp_path / "out") == log_of(whole)
    for sheet in whole.glob("*.png"):
        assert (tmp_path / "out" / sheet.name).read_bytes() == sheet.read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
def test_a_signal_stops_a_process_any_time(
    number: signal.Signals, code: int, photographs: Path, tmp_path: Path
) -> None:
    training = command("tiny", "--data", photographs, "--out", tmp_path, package="caflow_training")
    with started(training) as process:
        while not (tmp_path / LOG).exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == code
    way = "no checkpoint was written"
    if (tmp_path / "last.pt").exists():
        way = f"the checkpoint of step {checkpoint.read(tmp_path / 'last.pt')['training']['step']} is kept"
    assert way in errors.splitlines()[-1]
