"""The training loop: `train(recipe, data, out)` does what `caflow-train` says.

Everything a step does follows from the seed, the step and the checkpoint, so a run that was killed and started again
is, on a CPU, the run that was not, to the last bit.
"""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from caflow_training import checkpoint
from caflow_training.data import (
    TRAINING_STREAM,
    VALIDATION_STREAM,
    Batch,
    Crops,
    DataError,
    Photographs,
    find_photographs,
    split_by_file,
)
from caflow_training.model import CAFlow
from caflow_training.objective import AveragedWeights, Objective, initialize_from, learning_rate
from caflow_training.progress import Progress, TrainingLog
from caflow_training.recipe import Recipe
from caflow_training.validation import ExplodingInverse, validate, write_sheet

LAST_CHECKPOINT = "last.pt"
LOG = "log.jsonl"


class TrainingStopped(RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""


class ResumeError(ValueError):
    """The output folder holds another run."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    def rows(self, batch: int) -> range:
        """This process's rows of a global batch."""
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)


def train(recipe: Recipe, data: Path, out: Path, say: Callable[[str], None] = print) -> Path:
    """Train, or go on training, and return the path of the checkpoint.

    Under torchrun the batch is spread over the processes. `out` receives `last.pt`, `log.jsonl`, one sheet of samples
    per validation, and TensorBoard events where that is installed.

    Raises:
        DataError, ResumeError, TrainingStopped
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        processes = _join_processes(recipe, stack)
        training, held_out = _crops(recipe, data, processes, say)
        run = _Run(recipe, out, processes, training, held_out, say)
        run.start_or_resume()
        run.train(stack)
    return out / LAST_CHECKPOINT


class _Run:
    """The state of one training run: model, optimizer, average, step."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        processes: Processes,
        training: Crops,
        held_out: Crops,
        say: Callable[[str], None],
    ) -> None:
        self.recipe = recipe
        self.config = recipe.training
        self.out = out
        self.processes = processes
        self.training = training
        self.held_out_batch = held_out.batch(0, range(self.config.validation_crops))
        self.say = say
        torch.manual_seed(self.config.seed)
        self.model = CAFlow(recipe.model).to(processes.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate, fused=True)
        self.average = AveragedWeights(self.model, self.config.ema_decay)
        self.step = 0

    @property
    def leads(self) -> bool:
        return self.processes.rank == 0

    def start_or_resume(self) -> None:
        """Go on from the checkpoint in the output folder, or initialise the model from the first batch."""
        path = self.out / LAST_CHECKPOINT
        if not path.exists():
            # Every process sees the whole first batch, so all start from the same ActNorms without a word.
            initialize_from(self.model, self.training.batch(0, range(self.config.batch)))
            self.average = AveragedWeights(self.model, self.config.ema_decay)
            return
        contents = checkpoint.read(path)
        stored, wanted = contents["training"]["recipe"], _plain(self.recipe)
        different = [key for key in wanted if stored.get(key) != wanted[key] and key != "steps"]
        if different:
            key = different[0]
            raise ResumeError(
                f"{path} was trained with {key} = {stored.get(key)!r}, the recipe says {wanted[key]!r}: "
                "give the same recipe to go on, or another --out to start anew"
            )
        self.model.load_state_dict(contents["weights"])
        self.average.load(contents["ema"])
        self.optimizer.load_state_dict(contents["training"]["optimizer"])
        self.step = contents["training"]["step"]
        if self.leads:
            self.say(f"going on from step {self.step} of {path}")

    def train(self, stack: ExitStack) -> None:
        """Steps up to the last one."""
        config, processes = self.config, self.processes
        objective = self._wrapped_objective()
        log = stack.enter_context(TrainingLog(self.out, self.step, writes=self.leads))
        progress = stack.enter_context(Progress(config.steps, self.step, config.batch, shows=self.leads))
        batches = self.training.batches(self.step, processes.rows(config.batch))
        stack.callback(batches.close)
        while self.step < config.steps:
            loss, conditional, gradient_norm = self._step(objective, next(batches))
            log.step(self.step, loss, conditional, gradient_norm, learning_rate(self.step, config))
            self.step += 1
            progress.step(self.step, conditional)
            finished = self.step == config.steps
            if (self.step % config.epoch_steps == 0 or finished) and self.leads:
                self._validate(log, progress)
            if (self.step % config.checkpoint_steps == 0 or finished) and self.leads:
                self._save()

    def _step(self, objective: torch.nn.Module, batch: Batch) -> tuple[float, float, float]:
        """One update; the loss and −log p(W | Y)/dims over the global batch, and the gradient's norm before clipping.

        Raises:
            TrainingStopped: if either is not finite, before anything is changed.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        tensors = (batch.targets, batch.conditions, batch.target_u, batch.condition_u)
        loss, conditional = objective(*(t.to(self.processes.device, non_blocking=True) for t in tensors))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        values = torch.stack([loss.detach(), conditional.detach(), norm.detach()])
        loss_value, conditional_value, norm_value = self._mean_over_processes(values).tolist()
        if not torch.isfinite(torch.tensor([loss_value, norm_value])).all():
            raise TrainingStopped(
                f"step {self.step}: loss {loss_value}, gradient norm {norm_value}: not finite. "
                f"{self._kept()} Lower learning_rate or gradient_clip, or set precision = 'fp32'."
            )
        self.optimizer.step()
        self.average.update(self.model, self.step)
        return loss_value, conditional_value, norm_value

    def _validate(self, log: TrainingLog, progress: Progress) -> None:
        averaged = CAFlow(self.recipe.model).to(self.processes.device).eval()
        averaged.load_state_dict(self.average.values)
        batch = self.held_out_batch
        try:
            result = validate(averaged, batch, rows=self.config.batch)
            sheet = self.out / f"samples-{self.step:07d}.png"
            temperatures, seed = self.config.sheet_temperatures, self.config.seed
            write_sheet(sheet, averaged, batch.conditions, batch.targets, temperatures, seed)
        except ExplodingInverse as error:
            raise TrainingStopped(f"step {self.step}: {error}. {self._kept()} Lower learning_rate.") from None
        log.validation(self.step, result, sheet)
        progress.validation(self.step, result)

    def _save(self) -> None:
        checkpoint.save(
            self.out / LAST_CHECKPOINT,
            self.model,
            ema=self.average.values,
            training={
                "recipe": _plain(self.recipe),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
        )

    def _wrapped_objective(self) -> torch.nn.Module:
        if self.config.precision == "bf16":
            self.model.set_network_dtype(torch.bfloat16)
        objective: torch.nn.Module = Objective(self.model, self.config.condition_weight)
        if self.config.compile:
            objective.compile()
        return DistributedDataParallel(objective) if self.processes.count > 1 else objective

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        if self.processes.count > 1:
            dist.all_reduce(values)
            values /= self.processes.count
        return values

    def _kept(self) -> str:
        path = self.out / LAST_CHECKPOINT
        return f"The last good checkpoint is {path}." if path.exists() else "No checkpoint was written yet."


def _join_processes(recipe: Recipe, stack: ExitStack) -> Processes:
    """This process, joined with the others if torchrun started it."""
    has_gpu = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, torch.device("cuda" if has_gpu else "cpu"))
    if recipe.training.batch % count:
        raise DataError(f"batch = {recipe.training.batch} cannot be spread over {count} processes: wanted a multiple")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if has_gpu else "gloo")
    stack.callback(dist.destroy_process_group)
    return Processes(dist.get_rank(), count, device)


def _crops(recipe: Recipe, data: Path, processes: Processes, say: Callable[[str], None]) -> tuple[Crops, Crops]:
    """Training and held-out crops of the photographs in `data`."""
    leads = processes.rank == 0
    found = find_photographs(data, recipe.model.task, recipe.training.crop, shows_progress=leads)
    training, held_out = split_by_file(found, recipe.training.validation_share)
    if leads:
        for path, reason in found.skipped.items():
            say(f"skipped: {path} {reason}")
        say(f"{len(training.targets)} photographs to train on, {len(held_out.targets)} held out")

    def crops(photographs: Photographs, stream: int) -> Crops:
        return Crops(photographs, recipe.model.task, recipe.training, stream)

    return crops(training, TRAINING_STREAM), crops(held_out, VALIDATION_STREAM)


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON has it, so that what is stored compares equal to what is read."""
    plain: dict[str, Any] = json.loads(json.dumps(recipe.to_dict()))
    return plain
