"""Make the files of a training run that are committed: a bundle with the averaged weights, and a shortened log.

    python models/release.py build/x4-photo models/x4-photo.caflow

To make the bundle small, the weights of the mean network and of the networks inside affine layers are rounded to
float16. The 1×1 convolutions stay float32, because rounding would make their inverses inaccurate. The log keeps every
100th step and all validations. It is written to the folder with the bundle's name without its suffix.
"""

import json
import tempfile
from pathlib import Path

import click

from caflow_export.export import export
from caflow_export.export_options import ExportOptions
from caflow_runtime.bundle.manifest import DEFAULT_SAMPLING
from caflow_training import checkpoint
from caflow_training.bijections import AffineNetwork
from caflow_training.checkpoint import LAST_CHECKPOINT
from caflow_training.mean_network import MeanNetwork, UNet
from caflow_training.progress import LOG

LOGGED_STEPS = 100


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--temperature", default=DEFAULT_SAMPLING.temperature, help="Temperature that the model is best used with."
)
def main(run: Path, output: Path, temperature: float) -> None:
    """Export the model in the folder RUN to the bundle OUTPUT."""
    folder = output.with_suffix("")
    with tempfile.TemporaryDirectory() as scratch:
        rounded = Path(scratch) / f"{output.stem}.pt"
        _save_rounded(run, rounded)
        size = export(rounded, output, ExportOptions(force=True, temperature=temperature)).bytes
    lines = (run / LOG).read_text().splitlines(keepends=True)
    kept = [line for line in lines if "loss" not in (entry := json.loads(line)) or entry["step"] % LOGGED_STEPS == 0]
    folder.mkdir(exist_ok=True)
    (folder / LOG).write_text("".join(kept))
    click.echo(f"{output}: {size / 1e6:.1f} MB")


def _save_rounded(run: Path, path: Path) -> None:
    model = checkpoint.load(run / LAST_CHECKPOINT)
    for network in model.modules():
        if isinstance(network, AffineNetwork | MeanNetwork | UNet):
            for parameter in network.parameters():
                parameter.data = parameter.data.half().float()
    training = checkpoint.read(run / LAST_CHECKPOINT)["training"]
    recipe = training["recipe"] | {"steps": training["step"]}  # the number of finished steps, also of a stopped run
    checkpoint.save(path, model, training={"recipe": recipe, "step": training["step"]})


if __name__ == "__main__":
    main()
