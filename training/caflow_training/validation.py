"""Validation after each epoch: bits per dimension of held-out crops, a check of the inverse, and a sample sheet."""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from caflow_runtime.file_io.atomic_files import write_atomically
from caflow_training.crop_sampler import TrainingBatch
from caflow_training.model import CAFlow
from caflow_training.results import bits_per_dim, to_integers

# Largest allowed error of inverse(forward(x)), in pixel values. In float32 the error is usually about 0.001.
LARGEST_ROUND_TRIP_ERROR = 0.5
SHEET_ROWS = 6
SHEET_GAP = 4


class ExplodingInverse(RuntimeError):
    """Error for a flow whose inverse does not reproduce its input, or is not finite."""


@dataclass(frozen=True)
class Validation:
    """Measures of a model on held-out crops."""

    bits_per_dim: float
    """Mean of −log p(W | Y) in bits per dimension, at one random position per dequantization interval, on the scale of
    pixel values 0…256."""
    condition_bits_per_dim: float
    """Mean of −log p(Y) in bits per dimension."""
    still_psnr: float
    """PSNR of the sample at temperature 0 against the target, in dB, from the mean square error over all crops."""
    round_trip_error: float
    """Largest |inverse(forward(x)) − x| over all crops, in pixel values."""


@torch.no_grad()
def validate(model: CAFlow, batch: TrainingBatch, rows: int, *, checks_inverse: bool) -> Validation:
    """Score the crops of `batch`, `rows` crops at a time, and measure the error of the inverse with them.

    Raises:
        ExplodingInverse: if `checks_inverse` is true, and the error of the inverse is above LARGEST_ROUND_TRIP_ERROR or
            is not finite.
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
    if checks_inverse and not error <= LARGEST_ROUND_TRIP_ERROR:
        raise ExplodingInverse(
            f"exploding inverse: inverting the flow changes a held-out crop by {error:.3g} grey levels, and at most "
            f"{LARGEST_ROUND_TRIP_ERROR} is allowed"
        )
    still_psnr = 10 * math.log10(255**2 / max(torch.cat(square_errors).mean().item(), 1e-10))
    return Validation(torch.cat(bits).mean().item(), torch.cat(condition_bits).mean().item(), still_psnr, error)


@torch.no_grad()
def round_trip_error(model: CAFlow, targets: Tensor, conditions: Tensor) -> float:
    """Return the largest |inverse(forward(x)) − x| over all values of `targets`, in pixel values.

    x is the middle of each target value's dequantization interval. The result is infinite if a value is not finite.
    """
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
    """Write a sample sheet as PNG. It has one row for each of the first SHEET_ROWS conditions.

    A row shows the prepared condition, the target if there is one, and one sample per temperature.

    Raises:
        ExplodingInverse: if a sample is not finite.
        OSError: if the file cannot be written.
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
    columns = [model.config.task.to_rgb(column.float()) for column in columns]
    cells = torch.stack([to_integers(column) for column in columns], dim=1).permute(0, 1, 3, 4, 2)
    sheet = _grid(cells.cpu().numpy())
    _, coded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    write_atomically(path, coded.tobytes())


def _grid(cells: np.ndarray) -> np.ndarray:
    """Arrange cells (rows, columns, h, w, 3) uint8 in one image with white gaps."""
    gap = ((0, 0), (0, 0), (0, SHEET_GAP), (0, SHEET_GAP), (0, 0))
    padded = np.pad(cells, gap, constant_values=255)
    rows, columns, height, width, depth = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width, depth)
