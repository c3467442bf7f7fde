"""Makes what is committed of a run: its averaged weights, and its log.

    python models/release.py build/x4-photo models/x4-photo

Weights of the networks inside affine layers are rounded to halves, which is all that the file then needs for them; the
1×1 convolutions stay float32, for their inverses would not forgive it. Of the log every 100th step is kept.
"""

import json
from pathlib import Path

import click

from caflow_training import checkpoint
from caflow_training.bijections import AffineNetwork
from caflow_training.trainer import LAST_CHECKPOINT, LOG

LOGGED_STEPS = 100


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(run: Path, output: Path) -> None:
    """Read the folder of a RUN and write model.pt and log.jsonl into OUTPUT."""
    model = checkpoint.load(run / LAST_CHECKPOINT)
    for network in model.modules():
        if isinstance(network, AffineNetwork):
            for parameter in network.parameters():
                parameter.data = parameter.data.half().float()
    training = checkpoint.read(run / LAST_CHECKPOINT)["training"]
    path = output / "model.pt"
    recipe = training["recipe"] | {"steps": training["step"]}  # as many as were done: a run may be stopped
    checkpoint.save(path, model, training={"recipe": recipe, "step": training["step"]})
    lines = (run / LOG).read_text().splitlines(keepends=True)
    kept = [line for line in lines if "loss" not in (entry := json.loads(line)) or entry["step"] % LOGGED_STEPS == 0]
    (output / LOG).write_text("".join(kept))
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
