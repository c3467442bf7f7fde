"""What `gpu.py` measures: a condition with noise for N samples, the truth in float64, and how times are taken."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sampling import TEMPERATURE
from torch import Tensor

from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.flow import scan
from caflow_training.model import CHANNELS, CAFlow

SIDE = 64
SAMPLES = (1, 10)
FRAME = (1088, 1920)
"""1080p, rounded up to what every model here can make."""
FRAME_SAMPLES = (1, 4)
ROUNDS, WARM_UP = 15, 3
NAMES: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Subject:
    """A model that is measured, and how."""

    name: str
    model: CAFlow
    device: torch.device
    rounds: int
    """The median of so many runs counts."""
    scratch: Path
    """Folder that its bundles are exported to."""

    def seconds(self, run: Callable[[], object]) -> float:
        """Median time of a run, in seconds."""
        return seconds(run, self.device, self.rounds)


@dataclass(frozen=True)
class Case:
    """A condition, and noise for N samples of it."""

    condition: Tensor
    """(1, 3, h, w) uint8."""
    noise: dict[tuple[int, int], Tensor]
    samples: int

    @classmethod
    def of(cls, model: CAFlow, height: int, width: int, samples: int, device: torch.device) -> "Case":
        generator = torch.Generator().manual_seed(0)
        scale = model.config.task.scale
        condition = torch.randint(0, 256, (1, CHANNELS, height // scale, width // scale), generator=generator)
        noise = model.draw_noise(samples, height, width, generator)
        moved = {key: z.to(device, torch.float32) for key, z in noise.items()}
        return cls(condition.to(device, torch.uint8), moved, samples)

    def per_level(self, levels: int) -> list[Tensor]:
        """z of each level, as the graphs take it."""
        return [TEMPERATURE * torch.cat([self.noise[i, j] for i in range(j, levels)], 1) for j in range(levels)]


def chain(graphs: Mapping[str, Any], levels: int, condition: Any, image: Any, noise: list[Any]) -> scan.Rows:
    """One condition to N samples with their likelihoods."""
    rows = scan.sample(graphs, levels, scan.encode(graphs, condition), image, noise)
    graphs["to_image"]({"pixels": rows.pixels})
    return rows


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median, with the device's work finished."""

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
    """Of one case, in float64."""

    pixels: Tensor
    log_likelihood: Tensor

    def errors(self, rows: scan.Rows, device_to_tensor: Callable[[Any], Tensor]) -> dict[str, float]:
        """Of pixels as a share of full scale, root mean square, and of log-likelihoods, relative: the largest."""
        pixels = device_to_tensor(rows.pixels).double().cpu()
        shares = [device_to_tensor(share).double().cpu().sum((1, 2)) for maps in rows.shares for share in maps]
        relative = (torch.stack(shares).sum(0) / self.log_likelihood - 1).abs().max()
        rms = (pixels - self.pixels).square().mean().sqrt() / 256
        return {"pixel error": float(rms), "likelihood error": float(relative)}


def truth(model: CAFlow, case: Case) -> Truth:
    """The model itself, on the device, in float64."""
    exact = copy.deepcopy(model).double().to(case.condition.device)
    noise = {key: z.double() for key, z in case.noise.items()}
    drawn = exact.sample(case.condition.expand(case.samples, -1, -1, -1), noise, TEMPERATURE)
    return Truth(drawn.images.permute(0, 2, 3, 1).cpu(), drawn.log_likelihood.total.cpu())


def line(model: str, way: str, precision: str, n: int, took: float, base: float) -> dict[str, Any]:
    """One row of the first table."""
    return {"model": model, "way": way, "precision": precision, "n": n, "ms": 1e3 * took, "over published": base / took}
