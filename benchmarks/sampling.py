"""Time of best-of-N sampling with likelihoods: as published, batched, transformed, and exported.

The variants are:

* (a): as published. N samples are drawn one after the other, and each is scored by a second pass over its 8-bit image.
* (b): the same in one batch of N.
* (c): the model in PyTorch with the exporter's transformations. The likelihoods come from the sampling pass itself.
* (d): the graphs of (c) in ONNX Runtime.

The model has the default depths of the public implementation and random weights. Targets are 64×64.
"""

import copy
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import report
import torch
from torch import Tensor, nn

from caflow_export.export import PRECISIONS, export
from caflow_export.fold import FoldedChain
from caflow_export.networks import Mixings
from caflow_export.verify import torch_graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.flow import scan
from caflow_training import checkpoint
from caflow_training.bijections import Bijection, Chain
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.reference_checkpoint import DEFAULT_SIZE
from caflow_training.results import to_integers

Graphs = Mapping[str, scan.Graph]

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


def chain(model: CAFlow, graphs: Graphs, condition: scan.Array, samples: int) -> None:
    """Run variant (c) or (d), with one condition for all samples or with one for each sample."""
    levels, rng = model.config.levels, np.random.default_rng(0)
    shapes = model.conditional_flow.latent_shapes(CHANNELS, SIDE, SIDE)
    noise = []
    for j in range(levels):
        channels = sum(shapes[i, j][0] for i in range(j, levels))
        noise.append(TEMPERATURE * rng.standard_normal((samples, channels, *shapes[j, j][1:]), np.float32))
    encoded = scan.encode(graphs, condition)
    image = np.zeros(samples, np.int64) if len(condition) == 1 else np.arange(samples)
    graphs["to_image"]({"pixels": scan.sample(graphs, levels, encoded, image, noise).pixels})


class Folded(Bijection):
    """A chain that is folded as in `FoldedChain`, with unchanged networks. It measures fold alone."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        folded = FoldedChain.of(chain)
        self.kept = folded.channels // 2
        self.mixings = [Mixings([step.mixing], torch.float32, m == 0) for m, step in enumerate(folded.steps)]
        self.networks = [(step.injector, step.coupling) for step in folded.steps]
        self.couplings = nn.ModuleList(step.coupling for step in folded.steps)
        self.log_det = sum(step.mixing.log_det for step in folded.steps)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform data to noise, as `Chain.forward` does."""
        positions = x.shape[2] * x.shape[3] / 4
        log_det = x.new_full((len(x),), self.log_det * positions)
        for mixing, (injector, coupling) in zip(self.mixings, self.networks, strict=True):
            x = mixing.data_to_noise(x)
            if injector is not None:
                log_scale, shift = injector(condition)
                x, log_det = x * log_scale.exp() + shift, log_det + log_scale.sum((1, 2, 3))
            kept, changed = x.split([self.kept, self.kept], 1)
            log_scale, shift = coupling(kept if condition is None else torch.cat([kept, condition], 1))
            x = torch.cat([kept, changed * log_scale.exp() + shift], 1)
            log_det = log_det + log_scale.sum((1, 2, 3))
        return x, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform noise to data, as `Chain.inverse` does."""
        log_det = z.new_full((len(z),), -self.log_det * z.shape[2] * z.shape[3])
        for mixing, (injector, coupling) in zip(reversed(self.mixings), reversed(self.networks), strict=True):
            kept, changed = z.split([self.kept, self.kept], 1)
            log_scale, shift = coupling(kept if condition is None else torch.cat([kept, condition], 1))
            z = torch.cat([kept, (changed - shift) * (-log_scale).exp()], 1)
            log_det = log_det - log_scale.sum((1, 2, 3))
            if injector is not None:
                log_scale, shift = injector(condition)
                z, log_det = (z - shift) * (-log_scale).exp(), log_det - log_scale.sum((1, 2, 3))
            z = mixing.noise_to_data(z)
        return torch.nn.functional.pixel_shuffle(z, 2), log_det


def fold(model: CAFlow) -> CAFlow:
    """Return a copy of the model with every chain folded."""
    folded = copy.deepcopy(model)
    flows = [folded.condition_flow.levels, folded.target_flow.levels, folded.conditional_flow.own]
    for chains in (*flows, *folded.conditional_flow.cross):
        for j, chain in enumerate(chains):
            chains[j] = Folded(chain)
    return folded


def one_graph_a_level(folder: Path, scratch: Path, levels: int, threads: int, graphs: Graphs) -> Graphs:
    """Return the graphs of a bundle with decode_j and reverse_j merged into one graph for each level j.

    The merged graph runs when decode_j is called. Calling reverse_j then only returns its part of the outputs.
    """
    merged = dict(graphs)
    carries: dict[str, scan.Array] = {}
    for j in range(levels):
        halves = [onnx.load(folder / f"{name}_{j}.onnx") for name in ("decode", "reverse")]
        decode, reverse = (onnx.compose.add_prefix(h, p) for h, p in zip(halves, ("d_", "r_"), strict=True))
        outputs = [o.name for o in (*decode.graph.output, *reverse.graph.output)]
        both = onnx.compose.merge_models(decode, reverse, io_map=[("d_latent", "r_latent")], outputs=outputs)
        onnx.save(both, scratch / f"both_{j}.onnx")
        run = OnnxRuntimeCpu(threads).load(scratch / f"both_{j}.onnx")

        def decode_both(arrays: scan.Arrays, run: scan.Graph = run) -> dict[str, scan.Array]:
            given = {f"d_{name}": array for name, array in arrays.items()}
            out = run(given | {"r_carry": carries.get("r_next_carry", np.zeros(0, np.float32))})
            carries.clear()
            carries.update(out)
            return {name.removeprefix("d_"): array for name, array in out.items() if name.startswith("d_")}

        merged[f"decode_{j}"] = decode_both
        merged[f"reverse_{j}"] = lambda _: {
            name.removeprefix("r_"): array for name, array in carries.items() if name.startswith("r_")
        }
    return merged


@torch.no_grad()
def measure(model: CAFlow, graphs: Graphs, merged: Graphs, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return the seconds of every variant for each N, a row for each."""
    condition = torch.randint(0, 256, (1, CHANNELS, SIDE, SIDE), dtype=torch.uint8)
    nhwc = condition.permute(0, 2, 3, 1).contiguous().numpy()
    transformed, folded = torch_graphs(model, PRECISIONS["fp32"]), fold(model)
    rows = []
    for n in SAMPLES:
        conditions = condition.expand(n, -1, -1, -1)
        seconds = report.side_by_side(
            {
                "a": partial(published, model, condition, n),
                "b": partial(batched, model, conditions),
                "b, free likelihood": partial(model.sample, conditions, temperature=TEMPERATURE),
                "b, free likelihood, fold": partial(folded.sample, conditions, temperature=TEMPERATURE),
                "c without hoist": partial(chain, model, transformed, np.repeat(nhwc, n, 0), n),
                "c": partial(chain, model, transformed, nhwc, n),
                "d": partial(chain, model, graphs, nhwc, n),
                "d, one graph a level": partial(chain, model, merged, nhwc, n),
            },
            rounds,
        )
        for variant, value in seconds.items():
            faster = {f"over {base}": seconds[base] / value for base in ("a", "b")}
            rows.append({"variant": variant, "n": n, "threads": threads, "seconds": value, **faster})
    return rows


@click.command()
@report.options
@click.option("--rounds", default=5, show_default=True, help="Number of timed rounds; the median is reported.")
@click.option("--bundle", "folder", type=click.Path(path_type=Path), help="Bundle of this model; exported if missing.")
def main(threads: int, json_file: Path | None, rounds: int, folder: Path | None) -> None:
    """Measure all variants with each number of threads from 1 to --threads."""
    model = the_model()
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None or not folder.exists():
            checkpoint.save(Path(scratch) / "model.pt", model)
            started = time.perf_counter()
            made = export(Path(scratch) / "model.pt", folder or Path(scratch) / "model.caflow", processes=2)
            took = time.perf_counter() - started
            print(f"exported in {took:.0f} s, {made.share_of_parameters:.3f} × the bytes of the parameters\n")
            folder = made.path
        rows = []
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            manifest = read_manifest(folder)
            graphs = {g.name: OnnxRuntimeCpu(count).load(folder / g.file.path) for g in manifest.graphs}
            merged = one_graph_a_level(folder, Path(scratch), model.config.levels, count, graphs)
            rows += measure(model, graphs, merged, count, rounds)
    report.show(rows)
    report.write(json_file, rows, ("torch", "onnxruntime", "onnx"), threads=threads, rounds=rounds, seed=0)


if __name__ == "__main__":
    main()
