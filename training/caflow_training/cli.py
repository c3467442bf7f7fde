"""Command `caflow-train`: train a model from a recipe and a folder of photographs."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
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
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Checkpoint, or bundle exported in float32, whose weights initialize a new run. Every weight whose name and "
    "shape fit the recipe's model is used. Repeat the option to combine several files; later files replace weights of "
    "earlier ones. Ignored when a run is resumed.",
)
@click.option(
    "--vgg16",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with torchvision's VGG16 weights, for recipes with feature_weight above 0. By default torchvision "
    "downloads the weights.",
)
def main(recipe: str, data: Path, out: Path, start: tuple[Path, ...], vgg16: Path | None) -> None:
    """Train the model that RECIPE describes. RECIPE is a TOML file or the name of a built-in recipe.

    After a stop, run the same command again to resume. After Ctrl-C the exit code is 130. To use several GPUs, run:
    torchrun --nproc-per-node N -m caflow_training.cli RECIPE --data DIR --out DIR
    """
    try:
        from caflow_training.checkpoint import CheckpointError
        from caflow_training.config import ConfigError
        from caflow_training.perceptual import FeatureError
        from caflow_training.photographs import DataError
        from caflow_training.recipe import load_recipe
        from caflow_training.start import StartError
        from caflow_training.trainer import ResumeError, TrainingStopped, train
    except ModuleNotFoundError as error:
        print(f"caflow-train needs {error.name}: pip install 'caflow-deploy[train]'", file=sys.stderr)
        sys.exit(2)
    try:
        path = train(load_recipe(recipe), data, out, lambda line: click.echo(line, err=True), start, vgg16)
    except (CheckpointError, ConfigError, DataError, FeatureError, ResumeError, StartError) as error:
        print(f"caflow-train: {error}", file=sys.stderr)
        _end(2)
    except TrainingStopped as error:
        print(f"caflow-train: stopped: {error}", file=sys.stderr)
        _end(1)
    except KeyboardInterrupt:
        print("caflow-train: interrupted: run the same command again to resume", file=sys.stderr)
        _end(130)
    click.echo(path)
    _end(0)


def _end(code: int) -> NoReturn:
    """Exit with `code`. If several processes train together, skip Python's cleanup.

    In 1 of 15 runs, Python's cleanup found a thread of PyTorch's process group still running. The process then aborted,
    as if training had failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
