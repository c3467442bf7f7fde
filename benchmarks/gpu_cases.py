"""Inputs of `gpu.py` with their exact results in float64, and the measurement of times."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_floors import Floor, Rates
from sampling import TEMPERATURE
from torch import Tensor

from caflow_export.export import export
from caflow_export.export_options import ExportOptions
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_training import checkpoint
from caflow_training.model import CAFlow

SIDE = 64
SAMPLES = (1, 10)
FRAME = (1088, 1920)
"""Height and width of 1080p, rounded up to the size multiple of the measured models."""
FRAME_SAMPLES = (1, 4)
ROUNDS, WARM_UP = 15, 3
NAMES: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Subject:
    """Model to measure, with the settings of the measurement."""

    name: str
    model: CAFlow
    device: torch.device
    rounds: int
    """Number of timed runs; the median is reported."""
    scratch: Path
    """Folder to which the model's bundles are exported."""
    rates: Rates
    """Rates of the device, from which the floors follow."""

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the median time of a run, in seconds."""
        return seconds(run, self.device, self.rounds)

    def bundle(self, precision: PrecisionName) -> Path:
        """Return the folder of the model's bundle in this precision. Export the bundle if it does not exist."""
        folder = self.scratch / f"{self.name}-{precision}.caflow"
        if not folder.is_dir():
            weights = self.scratch / f"{self.name}.pt"
            checkpoint.save(weights, self.model)
            export(weights, folder, ExportOptions(precision))
        return folder


@dataclass(frozen=True)
class Case:
    """One condition, with noise for N samples."""

    condition: Tensor
    """(1, 3, h, w) uint8."""
    noise: dict[tuple[int, int], Tensor]
    samples: int

    @classmethod
    def of(cls, model: CAFlow, height: int, width: int, samples: int, device: torch.device) -> "Case":
        generator = torch.Generator().manual_seed(0)
        scale = model.config.task.scale
        condition = torch.from_numpy(smooth_conditions(1, height // scale, width // scale)).permute(0, 3, 1, 2)
        noise = model.draw_noise(samples, height, width, generator)
        moved = {key: z.to(device, torch.float32) for key, z in noise.items()}
        return cls(condition.to(device), moved, samples)

    def per_level(self, levels: int) -> list[Tensor]:
        """Return the noise z of each level in the form that the graphs require, scaled by the temperature."""
        return [TEMPERATURE * torch.cat([self.noise[i, j] for i in range(j, levels)], 1) for j in range(levels)]


def chain(
    graphs: Mapping[str, Any], levels: int, condition: Any, image: Any, noise: list[Any]
) -> level_chain.ChainResult:
    """Draw N samples of one condition with their likelihoods, and convert the samples to uint8."""
    rows = level_chain.sample(graphs, levels, level_chain.encode(graphs, condition), image, noise)
    graphs["to_image"]({"pixels": rows.pixels})
    return rows


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the median time of a run, in seconds. Each run ends when the device has finished its work."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for _ in range(rounds + WARM_UP):
        finish()
        started = time.perf_counter()
        run()
        finish()
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


@dataclass(frozen=True)
class Truth:
    """Exact samples of one case and their log-likelihoods, in float64."""

    pixels: Tensor
    log_likelihood: Tensor

    def errors(self, rows: level_chain.ChainResult, device_to_tensor: Callable[[Any], Tensor]) -> dict[str, float]:
        """Return two errors of `rows`.

        These are the root mean square error of the pixels, as a fraction of full scale, and the largest relative error
        of the log-likelihoods.
        """
        pixels = device_to_tensor(rows.pixels).double().cpu()
        shares = [device_to_tensor(share).double().cpu().sum((1, 2)) for maps in rows.maps for share in maps]
        relative = (torch.stack(shares).sum(0) / self.log_likelihood - 1).abs().max()
        rms = (pixels - self.pixels).square().mean().sqrt() / 256
        return {"pixel error": float(rms), "likelihood error": float(relative)}


def truth(model: CAFlow, case: Case) -> Truth:
    """Return the results of the model itself, computed on the device in float64."""
    exact = copy.deepcopy(model).double().to(case.condition.device)
    noise = {key: z.double() for key, z in case.noise.items()}
    drawn = exact.sample(case.condition.expand(case.samples, -1, -1, -1), noise, TEMPERATURE)
    return Truth(drawn.images.permute(0, 2, 3, 1).cpu(), drawn.log_likelihood.total.cpu())


@dataclass(frozen=True)
class Comparison:
    """What the times of one case are compared with."""

    model: str
    samples: int
    published: float
    """Seconds of the published procedure."""
    floors: Mapping[PrecisionName, Floor]
    """Floors of the chain of graphs, by precision."""

    def row(self, way: str, precision: PrecisionName, took: float) -> dict[str, Any]:
        """Return the table's row for a way of sampling that took `took` seconds."""
        row = {"model": self.model, "way": way, "precision": precision, "n": self.samples}
        row |= {"ms": 1e3 * took, "over published": self.published / took}
        return row | self.floors[precision].beside(took)
