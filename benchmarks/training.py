"""Time and memory of a Glow in this project, FrEIA and normflows: log-prob, sampling and a training step.

Each model is an image flow without transition steps for images of 64×64×3. It has K = 8 steps at each of L = 3 levels.
Its networks are convolutions of 3×3, 1×1 and 3×3 with equal width. FrEIA's block mixes channels by a fixed rotation;
this project and normflows learn a 1×1 convolution instead.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import report
import torch
from torch import Tensor, nn

SIDE, CHANNELS, LEVELS, STEPS = 64, 3, 3, 8
LIBRARIES = ("caflow", "FrEIA", "normflows")
PASSES = ("log-prob", "sample", "training step")
PROCESSES = 3  # the median of their memory is reported

Passes = dict[str, Callable[[], object]]


def caflow_glow(width: int, batch: int) -> tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[], object]]:
    """Return this project's image flow, a function for the log-prob of a batch, and a function that samples a batch."""
    from caflow_training.image_flow import ImageFlow
    from caflow_training.model import standard_normal_log_prob

    flow = ImageFlow(CHANNELS, LEVELS, STEPS, width, transition_steps=0)

    def log_prob(x: Tensor) -> Tensor:
        latents, log_dets = flow(x)
        prior = torch.stack([standard_normal_log_prob(latent) for latent in latents]).sum(0)
        return prior + torch.as_tensor(log_dets).sum(1)

    with torch.no_grad():
        shapes = [latent.shape for latent in flow(torch.zeros(batch, CHANNELS, SIDE, SIDE))[0]]
    return flow, log_prob, lambda: flow.inverse([torch.randn(shape) for shape in shapes])


def freia_glow(width: int, batch: int) -> tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[], object]]:
    """Return the model, the log-prob function and the sampling function of FrEIA."""
    from FrEIA.framework import GraphINN, InputNode, Node, OutputNode
    from FrEIA.modules import AllInOneBlock, IRevNetDownsampling, Split

    def network(entering: int, leaving: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(entering, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, leaving, 3, padding=1),
        )

    nodes: list[Any] = [InputNode(CHANNELS, SIDE, SIDE)]
    current = nodes[0].out0
    latents = []
    for level in range(LEVELS):
        nodes.append(Node(current, IRevNetDownsampling, {}))
        for _ in range(STEPS):
            nodes.append(Node(nodes[-1].out0, AllInOneBlock, {"subnet_constructor": network}))
        current = nodes[-1].out0
        if level < LEVELS - 1:
            nodes.append(Node(current, Split, {}))
            latents.append(OutputNode(nodes[-1].out0))
            current = nodes[-1].out1
    latents.append(OutputNode(current))
    flow = GraphINN(nodes + latents)

    def log_prob(x: Tensor) -> Tensor:
        z, log_det = flow(x)
        squares = torch.stack([part.square().sum((1, 2, 3)) for part in z]).sum(0)
        return torch.as_tensor(log_det - 0.5 * squares)

    with torch.no_grad():
        shapes = [part.shape for part in flow(torch.zeros(batch, CHANNELS, SIDE, SIDE))[0]]
    return flow, log_prob, lambda: flow([torch.randn(shape) for shape in shapes], rev=True)


def normflows_glow(width: int, batch: int) -> tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[], object]]:
    """Return the model, the log-prob function and the sampling function of normflows."""
    import normflows

    bases, merges, flows = [], [], []
    for i in range(LEVELS):
        channels = CHANNELS * 2 ** (LEVELS + 1 - i)
        blocks = [normflows.flows.GlowBlock(channels, width, split_mode="channel", scale=True) for _ in range(STEPS)]
        flows.append([*blocks, normflows.flows.Squeeze()])
        if i > 0:
            merges.append(normflows.flows.Merge())
        side = SIDE // 2 ** (LEVELS - i)
        depth = channels if i == 0 else channels // 2
        bases.append(normflows.distributions.DiagGaussian((depth, side, side), trainable=False))
    flow = normflows.MultiscaleFlow(bases, flows, merges)
    return flow, lambda x: flow.log_prob(x, None), lambda: flow.sample(batch)


BUILDERS = {"caflow": caflow_glow, "FrEIA": freia_glow, "normflows": normflows_glow}


def passes(library: str, width: int, batch: int) -> tuple[nn.Module, Passes]:
    """Return the model of a library and its three passes as functions, by name."""
    torch.manual_seed(0)
    x = torch.rand(batch, CHANNELS, SIDE, SIDE)
    model, log_prob, sample = BUILDERS[library](width, batch)
    with torch.no_grad():
        log_prob(x)  # normflows initializes its ActNorms in this call
        for parameter in model.parameters():  # so that no layer is the identity
            parameter.add_(0.01 * torch.randn_like(parameter))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def training_step() -> None:
        optimizer.zero_grad()
        (-log_prob(x).mean()).backward()
        optimizer.step()

    return model, {
        "log-prob": torch.no_grad()(lambda: log_prob(x)),
        "sample": torch.no_grad()(sample),
        "training step": training_step,
    }


def peak_memory(library: str, name: str, threads: int, width: int, batch: int) -> float:
    """Return the growth of a fresh process in MB: its peak memory minus its memory after the import of the library."""
    code = (
        f"import training as t, torch; torch.set_num_threads({threads}); "
        f"t.BUILDERS[{library!r}](8, 1); imported = t.resident('VmRSS'); "
        f"run = t.passes({library!r}, {width}, {batch})[1][{name!r}]; [run() for _ in range(5)]; "
        "print(t.resident('VmHWM') - imported)"
    )
    folder = Path(__file__).parent
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return float(result.stdout)


def resident(key: str) -> float:
    """Return the memory of this process in MB, now (`VmRSS`) or at its peak (`VmHWM`).

    `ru_maxrss` may include the memory of the parent process, so it is not used.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) / 1024


@click.command()
@report.options
@report.ROUNDS
@click.option("--width", default=256, show_default=True, help="Number of channels inside the networks.")
@click.option("--batch", default=8, show_default=True)
def main(threads: int, json_file: Path | None, rounds: int, width: int, batch: int) -> None:
    """Measure the three libraries side by side."""
    torch.set_num_threads(threads)
    models = {library: passes(library, width, batch) for library in LIBRARIES}
    rows = []
    for name in PASSES:
        seconds = report.side_by_side({library: models[library][1][name] for library in LIBRARIES}, rounds)
        megabytes = {
            library: statistics.median(peak_memory(library, name, threads, width, batch) for _ in range(PROCESSES))
            for library in LIBRARIES
        }
        for library in LIBRARIES:
            rows.append(
                {
                    "pass": name,
                    "library": library,
                    "parameters": sum(p.numel() for p in models[library][0].parameters() if p.requires_grad),
                    "seconds": seconds[library],
                    "caflow's time": seconds["caflow"] / seconds[library],
                    "MB": megabytes[library],
                    "caflow's memory": megabytes["caflow"] / megabytes[library],
                }
            )
    report.show(rows)
    packages = ("torch", "FrEIA", "normflows")
    report.write(json_file, rows, packages, threads=threads, rounds=rounds, width=width, batch=batch, seed=0)


if __name__ == "__main__":
    main()
