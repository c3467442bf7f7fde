"""Makes what is committed of a run: a bundle of its averaged weights, and its log.

    python models/release.py build/x4-photo x4-photo

writes models/x4-photo.caflow and models/x4-photo/log.jsonl. Weights of the networks inside affine layers and of the
mean network are rounded to halves, which is all that the bundle then needs for them. The 1×1 convolutions stay float32,
since their inverses would not forgive it. Of the log every 100th step is kept.
"""

import json
import tempfile
from pathlib import Path

import click

from caflow_export.export import export
from caflow_training import checkpoint
from caflow_training.bijections import AffineNetwork
from caflow_training.mean_network import MeanNetwork
from caflow_training.trainer import LAST_CHECKPOINT, LOG

LOGGED_STEPS = 100
MODELS = Path(__file__).parent


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("name")
def main(run: Path, name: str) -> None:
    """Export the model of a RUN's folder as models/NAME.caflow, and keep the RUN's log in models/NAME."""
    model = checkpoint.load(run / LAST_CHECKPOINT)
    for network in model.modules():
        if isinstance(network, AffineNetwork | MeanNetwork):
            for parameter in network.parameters():
                parameter.data = parameter.data.half().float()
    training = checkpoint.read(run / LAST_CHECKPOINT)["training"]
    recipe = training["recipe"] | {"steps": training["step"]}  # as many as were done: a run may be stopped
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.pt"
        checkpoint.save(path, model, training={"recipe": recipe, "step": training["step"]})
        made = export(path, MODELS / f"{name}.caflow", force=True)
    lines = (run / LOG).read_text().splitlines(keepends=True)
    kept = [line for line in lines if "loss" not in (entry := json.loads(line)) or entry["step"] % LOGGED_STEPS == 0]
    (MODELS / name / LOG).write_text("".join(kept))
    click.echo(f"{made.path}: {made.bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
