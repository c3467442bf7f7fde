"""The training loop. The command `caflow-train` calls `train`.

The result of a step depends on the seed, the step number and the checkpoint alone. So on a CPU, a run that was killed
and resumed gives bit for bit the same result as a run without interruption.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from caflow_runtime.file_io.atomic_files import remove_leftovers, write_atomically
from caflow_runtime.file_io.folder_lock import folder_lock
from caflow_runtime.file_io.paths import real_path
from caflow_runtime.interruptible import deferring_stops
from caflow_training import checkpoint
from caflow_training.adversarial import Adversary, adversarial_share
from caflow_training.checkpoint import LAST_CHECKPOINT, adam_state
from caflow_training.crop_sampler import TrainingBatch
from caflow_training.model import CAFlow
from caflow_training.objective import AveragedWeights, Objective, initialize_from, learning_rate
from caflow_training.perceptual import PerceptualDistance
from caflow_training.photographs import DataError, searched_folder
from caflow_training.processes import Processes, join_processes
from caflow_training.progress import LOG, Progress, TrainingLog, lacks_validation, progress_of
from caflow_training.recipe import Recipe
from caflow_training.resuming import ADVERSARY, ResumeError, plain, read_resumable
from caflow_training.start import FLOW_IS_TRAINED, start_from
from caflow_training.training_data import TrainingData, find_training_data
from caflow_training.validation import ExplodingInverse, validate, write_sheet

HELD_OUT = "held-out.txt"
MAX_THREADS = 8
"""Largest number of threads that prepare batches for a GPU."""


class TrainingStopped(RuntimeError):
    """Error for a run that cannot continue. The last good checkpoint is kept."""


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    say: Callable[[str], None] = print,
    start: Sequence[Path] = (),
    vgg16: Path | None = None,
) -> Path:
    """Train a model, or resume its training, and return the path of the checkpoint.

    The folder `out` receives `last.pt`, `log.jsonl`, `held-out.txt` and one sample sheet per validation. If TensorBoard
    is installed, it also receives TensorBoard events. Under torchrun, each batch is distributed over the processes;
    `data` must contain the same files for all processes, and `out` must be the same folder. PyTorch's setting
    `cudnn.allow_tf32` is turned off for the whole process.

    Arguments:
        say: function that is called with each message for the user.
        start: checkpoints whose weights initialize a new run: see `start_from`.
        vgg16: file with the weights of the perceptual distance: see `PerceptualDistance`.

    Raises:
        CheckpointError, DataError, FeatureError, MissingPackage, ResumeError, StartError, TrainingStopped
        OSError: if a file cannot be read or written.
        KeyboardInterrupt: if it is interrupted. A single process then saves a checkpoint of the steps that it finished.
    """
    _check_output(out, searched_folder(data, recipe.model.task))
    recipe.degradations.check_packages()
    perceptual = PerceptualDistance(vgg16, _network_dtype(recipe)) if recipe.training.feature_weight else None
    out.mkdir(parents=True, exist_ok=True)
    # By default, convolutions of float32 on a GPU use TF32, whose precision is too low for the inverse functions.
    torch.backends.cudnn.allow_tf32 = False
    with ExitStack() as stack:
        processes = join_processes(recipe.training.batch, stack, say)
        is_free = not processes.leads or stack.enter_context(folder_lock(out))
        if not (processes.agree(int(is_free)) and is_free):  # all processes end, with the same message
            raise ResumeError(f"another caflow-train is writing to {out}: wait until it ends, or use another --out")
        photographs = find_training_data(recipe, data, processes, say)
        run = _Run(recipe, out, processes, photographs, say)
        run.start_or_resume(start)
        run.train(perceptual)
        # Wait until process 0 has saved: if it is lost before, torchrun cannot restart processes that have ended.
        processes.wait_for_all()
    return out / LAST_CHECKPOINT


def _check_output(out: Path, searched: Path) -> None:
    """Check that the output folder has a name that TensorBoard can write, and is not searched for photographs.

    Otherwise sample sheets would become photographs: a resumed run would train on them, or be refused because its
    photographs differ.

    Raises:
        DataError
    """
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise DataError("the name of --out is not valid UTF-8, which TensorBoard requires: use another --out") from None
    if real_path(out).is_relative_to(real_path(searched)):
        raise DataError(
            f"--out {out} is inside {searched}, which is searched for photographs, so its sample sheets would be used "
            "for training: use an --out outside this folder"
        )


class _Run:
    """State of a training run: model, optimizer, averaged weights and step."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        processes: Processes,
        data: TrainingData,
        say: Callable[[str], None],
    ) -> None:
        self.recipe = recipe
        self.config = recipe.training
        self.out = out
        self.processes = processes
        self.data = data
        self.held_out_batch = data.held_out.batch(0, range(self.config.validation_crops))
        self.say = say if processes.leads else _say_nothing
        torch.manual_seed(self.config.seed)
        self.model = CAFlow(recipe.model).to(processes.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate, fused=True)
        is_adversarial = self.config.adversarial_weight > 0
        self.adversary = Adversary(processes.device, _network_dtype(recipe)) if is_adversarial else None
        self.optimizers = [self.optimizer, *([self.adversary.optimizer] if self.adversary else [])]
        self.average = AveragedWeights(self.model, self.config.ema_decay)
        self.step = 0
        self.flow_is_trained = self.config.trains_flow

    @property
    def is_complete(self) -> bool:
        """Whether all steps of the recipe were trained."""
        return self.step >= self.config.steps

    def start_or_resume(self, start: Sequence[Path]) -> None:
        """Resume from the checkpoint in the output folder. If there is none, start a new run.

        A new run starts with the weights of the checkpoints `start`. If they do not set all ActNorms, the ActNorms are
        initialized from the first batch.
        """
        path = self.out / LAST_CHECKPOINT
        if path.exists():
            self._resume(path)
        else:
            has_trained_flow = start_from(self.model, start, self.say)
            self.flow_is_trained = has_trained_flow or self.config.trains_flow
            if not has_trained_flow:
                # Every process uses the whole first batch, so all compute the same ActNorms without communication.
                initialize_from(self.model, self.data.training.batch(0, range(self.config.batch)))
            self.average = AveragedWeights(self.model, self.config.ema_decay)
        if not self.processes.agree(self.step):
            raise ResumeError(
                f"process {self.processes.rank} resumes from step {self.step} of {self.out}, but another process "
                "resumes from a different step: use an --out on storage that all machines share"
            )
        if self.processes.leads:
            remove_leftovers([path, self.out / LOG, self.out / HELD_OUT])
            held_out = self.data.held_out.photographs.targets
            write_atomically(self.out / HELD_OUT, b"".join(os.fsencode(file) + b"\n" for file in held_out))
        if self.is_complete:
            self.say(f"{path} is complete, after {self.step} steps: to train it further, raise steps in the recipe")
        elif self.step:
            self.say(f"resuming from step {self.step} of {path}")

    def _resume(self, path: Path) -> None:
        """Load the state of the run from a checkpoint.

        Raises:
            CheckpointError, ResumeError: as `read_resumable`, and if the state of the optimizer does not fit.
        """
        contents = read_resumable(path, self.recipe, self.data.digest)
        training = contents["training"]
        self.model.load_state_dict(contents["weights"])
        self.average.load(contents["ema"])
        self.optimizer.load_state_dict(adam_state(path, self.optimizer, training["optimizer"]))
        if self.adversary:
            stored = training[ADVERSARY]
            state = adam_state(path, self.adversary.optimizer, stored["optimizer"])
            self.adversary.load({"weights": stored["weights"], "optimizer": state})
        self.flow_is_trained = training.get(FLOW_IS_TRAINED, True)
        self.step = training["step"]

    def train(self, perceptual: PerceptualDistance | None) -> None:
        """Run all remaining steps, with validations and checkpoints. If it is interrupted, save a checkpoint."""
        config, processes, first = self.config, self.processes, self.step
        was_interrupted = self._is_validation_due and processes.leads and lacks_validation(self.out / LOG, first)
        if self.is_complete and not was_interrupted:
            return
        rows, threads = processes.rows(config.batch), _threads(processes.device)
        objective = self._wrapped_objective(perceptual)
        with (
            TrainingLog(self.out, first, writes=processes.leads) as log,
            progress_of(config.steps, first, config.batch, shows=processes.leads) as progress,
            closing(self.data.training.batches(first, rows, threads)) as batches,
        ):
            try:
                if was_interrupted:
                    self._validate(log, progress)
                self._train(objective, batches, log, progress)
            except KeyboardInterrupt:
                # One of several processes may be interrupted in the middle of a step.
                if processes.count == 1 and self.step > first:
                    log.sync()
                    self._save()
                raise

    def _train(
        self, objective: torch.nn.Module, batches: Iterator[TrainingBatch], log: TrainingLog, progress: Progress
    ) -> None:
        while not self.is_complete:
            batch = next(batches)
            # torchrun sends SIGTERM to processes that wait for a lost one, which must end at once.
            with deferring_stops() if self.processes.count == 1 else nullcontext():
                terms, gradient_norm = self._step(objective, batch)
                log.step(self.step, terms, gradient_norm, learning_rate(self.step, self.config))
                self.step += 1
            progress.step(self.step, terms)
            if self._is_validation_due and self.processes.leads:
                self._validate(log, progress)
            if (self.step % self.config.checkpoint_steps == 0 or self.is_complete) and self.processes.leads:
                log.sync()
                self._save()

    @property
    def _is_validation_due(self) -> bool:
        """Whether the model is to be validated after the current number of steps."""
        return self.step % self.config.epoch_steps == 0 or self.is_complete

    def _step(self, objective: torch.nn.Module, batch: TrainingBatch) -> tuple[dict[str, float], float]:
        """Update the weights once.

        Returns: the loss and its terms, averaged over the global batch, and the norm of the gradient before clipping.

        Raises:
            TrainingStopped: if the loss or the norm is not finite. The weights are then unchanged.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        share = adversarial_share(self.step, self.config)
        terms: dict[str, Tensor] = objective(batch.to(self.processes.device), share)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        means = self.processes.mean(torch.stack([*(term.detach() for term in terms.values()), norm.detach()])).tolist()
        values, norm_value = dict(zip(terms, means, strict=False)), means[-1]
        if not math.isfinite(values["loss"]) or not math.isfinite(norm_value):
            or_fp32 = "" if self.config.precision == "fp32" else ", or set precision = 'fp32'"
            raise TrainingStopped(
                f"step {self.step}: the loss ({values['loss']}) or the gradient norm ({norm_value}) is not finite. "
                f"{self._kept()} Lower learning_rate or gradient_clip{or_fp32}."
            )
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.model, self.step)
        return values, norm_value

    def _validate(self, log: TrainingLog, progress: Progress) -> None:
        averaged = CAFlow(self.recipe.model).to(self.processes.device).eval()
        averaged.load_state_dict(self.average.values)
        batch = self.held_out_batch
        try:
            # While the mean network alone is trained, its features lead the flows where they have not been trained.
            result = validate(averaged, batch, self.config.batch, checks_inverse=self.config.trains_flow)
            sheet = self.out / f"samples-{self.step:07d}.png"
            temperatures, seed = self.config.sheet_temperatures, self.config.seed
            write_sheet(sheet, averaged, batch.conditions, batch.targets, temperatures, seed)
        except ExplodingInverse as error:
            # The first batch sets the initial scales. If the coarsest level has a handful of values, some are near 0.
            larger = "" if (self.out / LAST_CHECKPOINT).exists() else ", or raise batch or crop"
            raise TrainingStopped(f"step {self.step}: {error}. {self._kept()} Lower learning_rate{larger}.") from None
        log.validation(self.step, result, sheet)
        progress.validation(self.step, result, self.flow_is_trained)

    def _save(self) -> None:
        checkpoint.save(
            self.out / LAST_CHECKPOINT,
            self.model,
            ema=self.average.values,
            training={
                "recipe": plain(self.recipe),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "photographs": self.data.digest,
                FLOW_IS_TRAINED: self.flow_is_trained,
                **({ADVERSARY: self.adversary.state()} if self.adversary else {}),
            },
        )

    def _wrapped_objective(self, perceptual: PerceptualDistance | None) -> torch.nn.Module:
        self.model.set_network_dtype(_network_dtype(self.recipe))
        discriminator = self.adversary.discriminator if self.adversary else None
        objective: torch.nn.Module = Objective(self.model, self.config, perceptual, discriminator)
        objective.to(self.processes.device)
        if self.config.compile:
            objective.compile()
        if self.processes.count == 1:
            return objective
        # Without the likelihood term, some weights have no gradient. DistributedDataParallel must search for them.
        return DistributedDataParallel(objective, find_unused_parameters=self.config.likelihood_weight == 0)

    def _kept(self) -> str:
        path = self.out / LAST_CHECKPOINT
        return f"The last good checkpoint is {path}." if path.exists() else "No checkpoint was written yet."


def _network_dtype(recipe: Recipe) -> torch.dtype | None:
    """Return the type in which the networks compute; None means float32."""
    return torch.bfloat16 if recipe.training.precision == "bf16" else None


def _threads(device: torch.device) -> int:
    """Return the number of threads that prepare batches.

    A GPU would wait for a single thread, which prepares some hundred crops per second. On a CPU, more threads would
    take time from the training.
    """
    if device.type == "cpu":
        return 1
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun sets it
    return max(1, min(MAX_THREADS, len(os.sched_getaffinity(0)) // processes_here))


def _say_nothing(_: str) -> None:
    """Discard a message. The leading process prints it."""
