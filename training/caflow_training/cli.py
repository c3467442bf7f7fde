"""Command `caflow-train`: train a model from a recipe and a folder of photographs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click

from caflow_cli.console import CommandConsole
from caflow_cli.program import Program
from caflow_cli.standard_streams import print_message
from caflow_cli.stops import ending_when_stopped, exit_code
from caflow_runtime.bundle.builtin import find_bundle, names
from caflow_runtime.errors import NO_SPACE
from caflow_runtime.extras import HOW_TO_INSTALL


@contextmanager
def stoppable() -> Iterator[None]:
    """Clean up after SIGTERM as after Ctrl-C. If the block is stopped and does not report that itself, report it."""
    # Among several processes, SIGTERM must end each at once: torchrun sends it to processes that wait for a lost one
    # inside PyTorch, where a handler in Python would not run.
    with nullcontext() if _are_several() else ending_when_stopped("caflow-train"):
        yield


class TrainedPath(click.Path):
    """Path of a trained model: a checkpoint, a bundle, or the name of a built-in model."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or fail if there is none."""
        path = find_bundle(value)
        if not path.exists():
            self.fail(
                f"{value}: there is no such file or folder, and no such built-in model; the built-in models are "
                f"{', '.join(names())}",
                param,
                ctx,
            )
        return path


@click.command(
    "caflow-train", cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, epilog=HOW_TO_INSTALL
)
@click.argument("recipe")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of photographs; subfolders are searched, too. For image-to-image, a folder that contains the folders "
    "A (conditions) and B (targets).",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the checkpoint, the log and the sample sheets. If the folder contains the checkpoint of a stopped "
    "run, that run is resumed.",
)
@click.option(
    "--start",
    type=TrainedPath(),
    multiple=True,
    help="Checkpoint, bundle exported in float32, or built-in model, such as x4-photo, whose weights initialize a new "
    "run. Every weight whose name and shape fit the recipe's model is used. Repeat the option to combine several; "
    "later ones replace weights of earlier ones. A run that is resumed continues with its own weights, and ignores "
    "this option.",
)
@click.option(
    "--vgg16",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with torchvision's VGG16 weights, for recipes with feature_weight above 0. By "
    "default torchvision downloads the weights.",
)
@click.version_option(package_name="caflow-deploy", prog_name="caflow-train")
@stoppable()
def main(recipe: str, data: Path, out: Path, start: tuple[Path, ...], vgg16: Path | None) -> None:
    """Train the model that RECIPE describes. Requires the extra train.

    RECIPE is a TOML file or the name of a built-in recipe. There is a small recipe for a first try: tiny. There is one
    for each task: super-resolution, colorization, inpainting, sketch, image-to-image. The other recipes train
    models in stages, the first one first: x4-mean, x4-likelihood and x4-photo; x4-real-estimator, x4-real-mean,
    x4-real-sharp and x4-real; x2-mean, x2-likelihood and x2-video; and, to complete images, inpaint-sharp and
    inpaint-photo, and colour-sharp and colour-hints. Run those of a model in this order, each with the checkpoint of
    the previous stage as --start.

    A run that is stopped by Ctrl-C or SIGTERM finishes its step and saves a checkpoint, from which the same command
    resumes; under torchrun, it resumes from the last checkpoint. The exit code is 0 after success, 1 if training cannot
    continue, for example because the loss is not finite or the disk is full, 2 after wrong use, 130 after Ctrl-C, and
    143 after SIGTERM.

    To use several GPUs, run: torchrun --nproc-per-node N -m -- caflow_training.cli RECIPE --data DIR --out DIR
    """
    try:
        from caflow_training.checkpoint import CheckpointError
        from caflow_training.config import ConfigError
        from caflow_training.degradations import MissingPackage
        from caflow_training.perceptual import FeatureError
        from caflow_training.photographs import DataError
        from caflow_training.recipe import load_recipe
        from caflow_training.resuming import ResumeError, next_run
        from caflow_training.start import StartError
        from caflow_training.trainer import TrainingStopped, train
    except ModuleNotFoundError as error:
        print_message(f"caflow-train needs {error.name}: pip install 'caflow-deploy[train]'")
        sys.exit(2)
    console = CommandConsole()
    try:
        loaded = load_recipe(recipe)
        if vgg16 is not None and not loaded.training.feature_weight:
            raise ConfigError(f"--vgg16: no effect on {recipe}, whose feature_weight is 0; remove --vgg16")
        path = train(loaded, data, out, console.message, start, vgg16)
    except (CheckpointError, ConfigError, DataError, FeatureError, MissingPackage, ResumeError, StartError) as error:
        print_message(f"caflow-train: {error}")
        _end(2)
    except TrainingStopped as error:
        print_message(f"caflow-train: stopped: {error}")
        _end(1)
    except OSError as error:
        reason = f"{error.filename or out}: {error.strerror or error}"
        remedy = "free space" if error.errno in NO_SPACE else "correct this"
        print_message(f"caflow-train: {reason}: {remedy}, then run the same command again; {next_run(out)}")
        _end(1)
    except KeyboardInterrupt as stop:
        print_message(f"caflow-train: stopped: {next_run(out)}")
        _end(exit_code(stop))
    console.result(str(path))
    _end(0)


def _are_several() -> bool:
    """Return whether this process is one of several that train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _end(code: int) -> NoReturn:
    """Exit with `code`. If several processes train together, skip Python's cleanup.

    In 1 of 15 runs, Python's cleanup found a thread of PyTorch's process group still running. The process then aborted,
    as if training had failed.
    """
    if _are_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
