"""Reports of a training run: a progress bar, a log in JSON lines and, if TensorBoard is installed, its events."""

import importlib.util
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from caflow_runtime.whole_files import write_whole
from caflow_training.validation import Validation

SPEED_SMOOTHING = 0.95
LOG = "log.jsonl"


class Progress:
    """Progress bar with the loss, the speed in images per second, and the remaining time.

    If the loss contains the likelihood, the bar shows −log p(W | Y) in bits per dimension instead of the loss.
    """

    def __init__(self, steps: int, first_step: int, images_per_step: int, shows: bool) -> None:
        self._images_per_step = images_per_step
        self._last = time.perf_counter()
        self._seconds_per_step: float | None = None
        self._console = Console(stderr=True, quiet=not shows)
        self._bar = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[value]}  {task.fields[speed]} images/s"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=steps, completed=first_step, value="–", speed="–")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()

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
        self._bar.update(self._task, completed=done, value=value, speed=f"{speed:.1f}")

    def validation(self, step: int, result: Validation, flow_is_trained: bool) -> None:
        """Print the result of a validation above the bar. The likelihood of an untrained flow is omitted."""
        self._last = time.perf_counter()
        likelihood = f"{result.bits_per_dim:.4f} bits/dim, " if flow_is_trained else ""
        self._console.print(f"step {step}: held-out {likelihood}τ = 0 {result.still_psnr:.2f} dB")


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
        _keep_lines_before(self._path, first_step)
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
        self._write(step - 1, held_out, {"sheet": sheet.name})

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


def _keep_lines_before(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines():
        logged = _step_of(line)
        # A line without a step is incomplete: the run was killed, or the machine stopped, while writing.
        if logged is not None and logged < step:
            kept.append(line)
    write_whole(path, b"".join(line + b"\n" for line in kept))


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
