"""Time of best-of-N sampling with likelihoods: as published, batched, transformed, and exported.

The variants are:

* (a): as published. N samples are drawn one after the other, and each is scored by a second pass over its 8-bit image.
* (b): the same in one batch of N.
* (c): the model in PyTorch with the exporter's transformations. The likelihoods come from the sampling pass itself.
* (d): the graphs of (c) in ONNX Runtime.

The model has the default depths of the public implementation and random weights. Targets are 64×64.
"""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from torch import Tensor

from caflow_export.export import PRECISIONS, export
from caflow_export.verify import torch_graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.flow import level_chain
from caflow_training import checkpoint
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.reference_checkpoint import DEFAULT_SIZE
from caflow_training.results import to_integers

Graphs = Mapping[str, level_chain.Graph]

SIDE = 64
SAMPLES = (1, 10)
TEMPERATURE = 0.8


def the_model() -> CAFlow:
    """Return a model of the public implementation's default size. Noise on its weights prevents identity layers."""
    torch.manual_seed(0)
    model = CAFlow(DEFAULT_SIZE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.003 * torch.randn_like(parameter))
    return model


def published(model: CAFlow, condition: Tensor, samples: int) -> None:
    """Run variant (a)."""
    for _ in range(samples):
        model.log_prob(to_integers(model.sample(condition, temperature=TEMPERATURE).images), condition)


def batched(model: CAFlow, conditions: Tensor) -> None:
    """Run variant (b)."""
    model.log_prob(to_integers(model.sample(conditions, temperature=TEMPERATURE).images), conditions)


def chain(model: CAFlow, graphs: Graphs, condition: level_chain.Array, samples: int) -> None:
    """Run variant (c) or (d), with one condition for all samples or with one for each sample."""
    levels, rng = model.config.levels, np.random.default_rng(0)
    shapes = model.conditional_flow.latent_shapes(CHANNELS, SIDE, SIDE)
    noise = []
    for j in range(levels):
        channels = sum(shapes[i, j][0] for i in range(j, levels))
        noise.append(TEMPERATURE * rng.standard_normal((samples, channels, *shapes[j, j][1:]), np.float32))
    encoded = level_chain.encode(graphs, condition)
    image = np.zeros(samples, np.int64) if len(condition) == 1 else np.arange(samples)
    graphs["to_image"]({"pixels": level_chain.sample(graphs, levels, encoded, image, noise).pixels})


@torch.no_grad()
def measure(model: CAFlow, graphs: Graphs, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return the seconds of every variant for each N, a row for each."""
    condition = torch.randint(0, 256, (1, CHANNELS, SIDE, SIDE), dtype=torch.uint8)
    nhwc = condition.permute(0, 2, 3, 1).contiguous().numpy()
    transformed = torch_graphs(model, PRECISIONS["fp32"])
    rows = []
    for n in SAMPLES:
        conditions = condition.expand(n, -1, -1, -1)
        seconds = report.side_by_side(
            {
                "a": partial(published, model, condition, n),
                "b": partial(batched, model, conditions),
                "b, free likelihood": partial(model.sample, conditions, temperature=TEMPERATURE),
                "c without hoist": partial(chain, model, transformed, np.repeat(nhwc, n, 0), n),
                "c": partial(chain, model, transformed, nhwc, n),
                "d": partial(chain, model, graphs, nhwc, n),
            },
            rounds,
        )
        for variant, value in seconds.items():
            faster = {f"over {base}": seconds[base] / value for base in ("a", "b")}
            rows.append({"variant": variant, "n": n, "threads": threads, "seconds": value, **faster})
    return rows


@click.command("chains")
@report.options
@report.ROUNDS
@click.option("--model", "folder", type=click.Path(path_type=Path), help="Bundle of this model; exported if missing.")
def measure_chains(threads: int, json_file: Path | None, rounds: int, folder: Path | None) -> None:
    """Measure best of N as published, batched, transformed and exported, with 1 to --threads threads."""
    model = the_model()
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None or not folder.exists():
            weights = Path(scratch) / "model.pt"
            checkpoint.save(weights, model)
            folder = export(weights, folder or Path(scratch) / "model.caflow", processes=2).path
        rows = []
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            manifest = read_manifest(folder)
            graphs = {g.name: OnnxRuntimeCpu(count).load(folder / g.file.path) for g in manifest.graphs}
            rows += measure(model, graphs, count, rounds)
    report.show(rows)
    report.write(json_file, rows, threads=threads, rounds=rounds, seed=0)
