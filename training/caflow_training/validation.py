"""What is looked at between epochs: held-out bits per dimension, the inverse, and a sheet of samples."""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from caflow_training.data import Batch
from caflow_training.model import CAFlow, bits_per_dim, to_integers

# An inverse that misses a pixel value by more than this has lost the image: float32 leaves about 0.001.
LARGEST_ROUND_TRIP_ERROR = 0.5
SHEET_ROWS = 6
SHEET_GAP = 4


class ExplodingInverse(RuntimeError):
    """The inverse does not return what went in."""


@dataclass(frozen=True)
class Validation:
    """Of held-out crops."""

    bits_per_dim: float
    """−log p(W | Y), one draw per dequantization cell; pixel values as 0…256."""
    condition_bits_per_dim: float
    """−log p(Y)."""
    still_psnr: float
    """PSNR of the sample at τ = 0, in dB: of the mean square error over all crops."""
    round_trip_error: float
    """Largest |inverse(forward(x)) − x|, in pixel values."""


@torch.no_grad()
def validate(model: CAFlow, batch: Batch, rows: int) -> Validation:
    """Score the crops of `batch`, `rows` at a time, and try the inverse on them.

    Raises:
        ExplodingInverse: if the inverse is not finite or misses by more than LARGEST_ROUND_TRIP_ERROR.
    """
    device = next(model.parameters()).device
    bits: list[Tensor] = []
    condition_bits: list[Tensor] = []
    square_errors: list[Tensor] = []
    error = 0.0
    for start in range(0, len(batch.targets), rows):
        part = slice(start, start + rows)
        targets, conditions = batch.targets[part].to(device), batch.conditions[part].to(device)
        target_u, condition_u = batch.target_u[part].to(device), batch.condition_u[part].to(device)
        likelihood, condition_log_prob = model.log_joint(targets, conditions, target_u, condition_u)
        dims = targets[0].numel()
        bits.append(bits_per_dim(likelihood.total, dims))
        condition_bits.append(bits_per_dim(condition_log_prob, dims))
        still = to_integers(model.sample(conditions, temperature=0.0).images)
        square_errors.append((still.float() - targets).square().mean((1, 2, 3)))
        error = max(error, round_trip_error(model, targets, conditions))
    if not error <= LARGEST_ROUND_TRIP_ERROR:
        raise ExplodingInverse(
            f"exploding inverse: a held-out image comes back off by {error:.3g} grey levels, "
            f"wanted at most {LARGEST_ROUND_TRIP_ERROR}"
        )
    still_psnr = 10 * math.log10(255**2 / max(torch.cat(square_errors).mean().item(), 1e-10))
    return Validation(torch.cat(bits).mean().item(), torch.cat(condition_bits).mean().item(), still_psnr, error)


@torch.no_grad()
def round_trip_error(model: CAFlow, targets: Tensor, conditions: Tensor) -> float:
    """Largest |inverse(forward(x)) − x| over the pixel values of `targets`, taken at the middle of their cells."""
    encoded = model.encode(conditions)
    x = targets.to(encoded.prepared.dtype) + 0.5
    back = model.decode(model.encode_target(x, encoded), encoded).images
    error = (back - x).abs().max()
    return error.item() if torch.isfinite(back).all() else float("inf")


@torch.no_grad()
def write_sheet(
    path: Path,
    model: CAFlow,
    conditions: Tensor,
    targets: Tensor | None,
    temperatures: tuple[float, ...],
    seed: int,
) -> None:
    """A PNG: one row per condition: prepared, its target where there is one, and a sample at each temperature.

    Raises:
        ExplodingInverse: if a sample is not finite.
    """
    device = next(model.parameters()).device
    conditions = conditions[:SHEET_ROWS].to(device)
    columns = [model.prepare(conditions)]
    generator = torch.Generator(device).manual_seed(seed)
    noise = model.draw_noise(len(conditions), columns[0].shape[2], columns[0].shape[3], generator)
    if targets is not None:
        columns.append(targets[:SHEET_ROWS].to(device))
    for temperature in temperatures:
        images = model.sample(conditions, noise, temperature).images
        if not torch.isfinite(images).all():
            raise ExplodingInverse(f"exploding inverse: a sample at temperature {temperature} is not finite")
        columns.append(images)
    cells = torch.stack([to_integers(column.float()) for column in columns], dim=1).permute(0, 1, 3, 4, 2)
    sheet = _grid(cells.cpu().numpy())
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path}: cannot write the sheet of samples")


def _grid(cells: np.ndarray) -> np.ndarray:
    """(rows, columns, h, w, 3) uint8 to one image with white gaps."""
    gap = ((0, 0), (0, 0), (0, SHEET_GAP), (0, SHEET_GAP), (0, 0))
    padded = np.pad(cells, gap, constant_values=255)
    rows, columns, height, width, depth = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width, depth)
