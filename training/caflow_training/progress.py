"""Reports of a training run: a progress bar, a log in JSON lines and, if TensorBoard is installed, its events."""

import importlib.util
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from caflow_cli.console import CommandConsole
from caflow_runtime.file_io.atomic_files import write_atomically
from caflow_training.validation import Validation

SPEED_SMOOTHING = 0.95
LOG = "log.jsonl"
SHEET = "sheet"
"""Key of log lines about validations: name of the sample sheet."""


class Progress:
    """Progress bar with the loss, the speed in images per second, and the remaining time.

    If the loss contains the likelihood, the bar shows −log p(W | Y) in bits per dimension instead of the loss.
    """

    def __init__(self, console: CommandConsole, bar: ProgressBar, images_per_step: int) -> None:
        """Start before the first step.

        Arguments:
            bar: bar with one task, which counts the steps.
        """
        self._console, self._bar, self._images_per_step = console, bar, images_per_step
        self._last = time.perf_counter()
        self._seconds_per_step: float | None = None

    def step(self, done: int, terms: Mapping[str, float]) -> None:
        """Update the bar after a step.

        Arguments:
            done: number of steps that are finished.
            terms: loss of the last step and its terms, as `Objective` names them.
        """
        now = time.perf_counter()
        taken, self._last = now - self._last, now
        before = taken if self._seconds_per_step is None else self._seconds_per_step
        self._seconds_per_step = SPEED_SMOOTHING * before + (1 - SPEED_SMOOTHING) * taken
        speed = self._images_per_step / self._seconds_per_step
        value = f"{_bits(terms['conditional']):.3f} bits/dim" if "conditional" in terms else f"loss {terms['loss']:.4f}"
        self._bar.update(self._bar.task_ids[0], completed=done, value=value, speed=f"{speed:.1f}")

    def validation(self, step: int, result: Validation, flow_is_trained: bool) -> None:
        """Print the result of a validation above the bar. The likelihood of an untrained flow is omitted."""
        self._last = time.perf_counter()
        likelihood = f"{result.bits_per_dim:.4f} bits/dim, " if flow_is_trained else ""
        self._console.message(f"step {step}: held-out {likelihood}τ = 0 {result.still_psnr:.2f} dB")


@contextmanager
def progress_of(steps: int, first_step: int, images_per_step: int, shows: bool) -> Iterator[Progress]:
    """Yield the progress of a run.

    Arguments:
        steps: number of all steps.
        first_step: number of the steps that were finished earlier.
        shows: whether this process shows it.
    """
    console = CommandConsole()
    console.shows_messages = shows
    speed = TextColumn("{task.fields[value]}  {task.fields[speed]} images/s")
    with console.progress_bar(
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn()
    ) as bar:
        bar.add_task("", total=steps, completed=first_step, value="–", speed="–")
        yield Progress(console, bar, images_per_step)


class TrainingLog:
    """Log of a run: `log.jsonl` in the output folder, and TensorBoard events.

    `log.jsonl` has one JSON object per step or validation. When a killed run is resumed, the lines of steps after its
    last checkpoint are removed.
    """

    def __init__(self, out: Path, first_step: int, writes: bool) -> None:
        self._writes = writes
        self._path = out / LOG
        self._tensorboard: Any = None
        if not writes:
            return
        write_atomically(self._path, b"".join(line + b"\n" for line in _lines_before(self._path, first_step)))
        self._file = self._path.open("a")
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(out), purge_step=first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._writes:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def step(self, step: int, terms: Mapping[str, float], gradient_norm: float, learning_rate: float) -> None:
        """Log a training step. `terms` contains the loss and its terms, as `Objective` names them."""
        values = dict(terms)
        if "conditional" in values:
            values["bits_per_dim"] = _bits(values.pop("conditional"))
        self._write(step, {**values, "gradient_norm": gradient_norm, "learning_rate": learning_rate})

    def validation(self, step: int, result: Validation, sheet: Path) -> None:
        """Log the result of a validation after `step` steps."""
        held_out = {f"held_out_{key}": value for key, value in asdict(result).items()}
        self._write(step - 1, held_out, {SHEET: sheet.name})

    def sync(self) -> None:
        """Flush all lines to the disk. Call this before a checkpoint is saved, so that no line of its steps is lost."""
        os.fsync(self._file.fileno())

    def _write(self, step: int, values: dict[str, float], labels: dict[str, str] | None = None) -> None:
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **values, **(labels or {})}) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)


def lacks_validation(path: Path, step: int) -> bool:
    """Return whether the log at `path` has a line about the last step before `step`, but none about its validation."""
    lines = _lines_before(path, step)
    return bool(lines) and SHEET not in json.loads(lines[-1])


def _lines_before(path: Path, step: int) -> list[bytes]:
    """Return the lines of a log about the steps before `step`. A missing log has none."""
    kept = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        logged = _step_of(line)
        # A line without a step is incomplete: the run was killed, or the machine stopped, while writing.
        if logged is not None and logged < step:
            kept.append(line)
    return kept


def _step_of(line: bytes) -> int | None:
    """Return the step of a log line, or None if the line is incomplete or damaged.

    Lines may contain NaN, which strict JSON does not allow.
    """
    try:
        step = json.loads(line)["step"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None


def _bits(nats: float) -> float:
    return nats / math.log(2)
