"""Training that is stopped, or on two machines of which one fails: the result equals that of an undisturbed run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import caflow_train, in_a_process
from ports import free_port
from test_trainer import RESTART_WARNING, assert_same_checkpoint, log_of, losses, short_recipe, write_recipe
from two_machines import ADDRESSES, INTERFACE, Machine, kill, two_machines, why_none

from caflow_training import trainer
from caflow_training.crop_sampler import CropSampler
from caflow_training.objective import AveragedWeights
from caflow_training.processes import may_hang_at_restart
from caflow_training.trainer import train

STEPS, LOST_AT_STEP = 45, 15  # a checkpoint every 10
PATIENCE_SECONDS = 600  # a lost machine is back within half a minute, or minutes where this machine is busy


@dataclass
class TwoMachinesTraining:
    """A training run on two machines, with the commands of docs/guides/training.md."""

    machines: list[Machine]
    commands: list[str]
    out: Path

    def start(self, k: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": INTERFACE}
        self.machines[k].start(self.commands[k], environment)

    def wait_for_step(self, step: int) -> None:
        log = self.out / "log.jsonl"
        self._wait_for(f"step {step}", lambda: log.exists() and f'"step": {step},' in log.read_text())

    def wait_for_end(self) -> None:
        self._wait_for("its end", lambda: not any(machine.works() for machine in self.machines))

    def _wait_for(self, what: str, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            if time.monotonic() > deadline:
                output = "\n".join(f"{m.name}:\n{m.output.read_text()[-3000:]}" for m in self.machines)
                pytest.fail(f"the run did not reach {what} within {PATIENCE_SECONDS} s\n{output}")
            time.sleep(0.01)


@contextmanager
def training_in(folder: Path, photographs: Path) -> Iterator[TwoMachinesTraining]:
    """Start a run in a new folder, on both machines."""
    folder.mkdir()
    recipe = write_recipe(folder / "recipe.toml", steps=STEPS, epoch_steps=20, checkpoint_steps=10)
    commands = [training_loop(k, recipe, photographs, folder / "out") for k in range(2)]
    with two_machines(folder) as machines:
        run = TwoMachinesTraining(machines, commands, folder / "out")
        run.start(0)
        run.start(1)
        yield run


def training_loop(k: int, recipe: Path, data: Path, out: Path) -> str:
    """Return the command of docs/guides/training.md for one of two machines. It notices a lost machine sooner."""
    meeting = f"--rdzv-id=x4 --rdzv-backend=c10d --rdzv-endpoint={ADDRESSES[0]}:29511 --local-addr={ADDRESSES[k]}"
    options = f"--nnodes=2 --nproc-per-node=1 --max-restarts=3 --rdzv-conf=keep_alive_interval=1,is_host={1 - k}"
    torchrun = f"{sys.executable} -m torch.distributed.run {options} {meeting}"
    training = f"-m -- caflow_training.cli {recipe} --data {data} --out {out}"
    return f"export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1; until {torchrun} {training}; do sleep 1; done"


@pytest.fixture(scope="module")
def undisturbed(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run in which nothing failed."""
    reason = why_none()
    if reason is not None:
        pytest.skip(reason)
    with training_in(tmp_path_factory.mktemp("undisturbed") / "run", photographs) as run:
        run.wait_for_end()
    return run.out


def lose(run: TwoMachinesTraining, k: int) -> None:
    """Lose a machine. All processes meet on the first one."""
    run.machines[k].lose()
    run.machines[k].boot()
    run.start(k)


def lose_a_process(run: TwoMachinesTraining) -> None:
    """Kill a training process, but not its torchrun."""
    (process,) = run.machines[1].processes("-u -m caflow_training.cli")
    kill(process)


@pytest.mark.full
@pytest.mark.parametrize("disturb", [partial(lose, k=0), partial(lose, k=1), lose_a_process])
def test_after_a_machine_or_a_process_failed_training_ends_in_the_same_bits(
    disturb: Callable[[TwoMachinesTraining], None], undisturbed: Path, photographs: Path, tmp_path: Path
) -> None:
    with training_in(tmp_path / "run", photographs) as run:
        run.wait_for_step(LOST_AT_STEP)
        disturb(run)
        run.wait_for_end()
    output = "".join(machine.output.read_text() for machine in run.machines)
    assert "resuming from step " in output
    assert RESTART_WARNING not in output
    assert losses(run.out) == losses(undisturbed)
    assert len(losses(run.out)) == STEPS
    assert_same_checkpoint(run.out / "last.pt", undisturbed / "last.pt")


def in_two_processes(command: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a shell command as two processes that train together without torchrun. Their `$RANK` is 0 and 1."""
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = os.environ | group | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def one(rank: int) -> subprocess.CompletedProcess[str]:
        return in_a_process(["bash", "-c", f"exec {command}"], env=environment | {"RANK": str(rank)})

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


@pytest.mark.full
@pytest.mark.parametrize(
    ("data", "out", "messages"),
    [
        ("data-0", "out-$RANK", ["process 0 resumes from step 4 of ", "process 1 resumes from step 0 of "]),
        ("data-$RANK", "out-1", ["another process found other files: --data must contain the same files"] * 2),
    ],
    ids=["results", "photographs"],
)
def test_folders_that_are_not_shared_are_refused(
    data: str, out: str, messages: list[str], photographs: Path, tmp_path: Path
) -> None:
    for k in range(2):
        shutil.copytree(photographs, tmp_path / f"data-{k}")
    next((tmp_path / "data-1").glob("*.jpg")).unlink()
    train(short_recipe(steps=4), tmp_path / "data-0", tmp_path / "out-0")
    recipe = write_recipe(tmp_path / "recipe.toml")
    ended = in_two_processes(
        f"{sys.executable} -m caflow_training.cli {recipe} --data {tmp_path}/{data} --out {tmp_path}/{out}"
    )
    assert [process.returncode for process in ended] == [2, 2], [process.stderr for process in ended]
    for process, message in zip(ended, messages, strict=True):
        assert message in process.stderr
    assert not (tmp_path / "out-1" / "last.pt").exists()


def test_only_a_torchrun_that_restarts_and_shares_its_store_may_hang() -> None:
    restarts, shares = {"TORCHELASTIC_MAX_RESTARTS": "2"}, {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert may_hang_at_restart(restarts | shares)
    assert not may_hang_at_restart({})
    assert not may_hang_at_restart(shares | {"TORCHELASTIC_MAX_RESTARTS": "0"})
    assert not may_hang_at_restart(restarts | {"TORCHELASTIC_USE_AGENT_STORE": "False"})


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


@pytest.mark.usefixtures("heeding_ctrl_c")
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
