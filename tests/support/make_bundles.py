"""Makes the bundles in `tests/data`, for tests of the runtime: python tests/support/make_bundles.py

`tiny.caflow` is trained and calibrated, which takes minutes on one core. Its weights depend only on the recipe and the
photographs in `tests/data`, so another run with the same machine and versions writes equal weights. The bundles of the
tasks that complete images have random weights.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from small_models import COMPLETING, small_model
from tiny import CALIBRATED_TEMPERATURE, DATA, TINY, calibrate, pairs_of_photographs

from caflow_deploy.images.photographs import with_grey_copies
from caflow_export.export import export
from caflow_export.export_options import ExportOptions
from caflow_runtime.bundle.file_names import CARD, SHEET
from caflow_runtime.ood.calibration import write_calibration
from caflow_runtime.pipeline.pipeline import load
from caflow_training import checkpoint
from caflow_training.completion_tasks import ColorHints, MaskedInpainting
from caflow_training.recipe import recipe_from_dict
from caflow_training.trainer import train

PHOTOGRAPHS = DATA / "photographs"
RECIPE = {
    "task": "super-resolution",
    "scale": 4,
    "levels": 2,
    "condition_steps": 1,
    "target_steps": 1,
    "own_steps": 1,
    "cross_steps": 1,
    "image_width": 4,
    "conditional_width": 1,
    "image_transition_steps": 0,
    "conditional_transition_steps": 0,
    "residual": True,
    "mean_blocks": 1,
    "mean_width": 6,
    "mean_features": 2,
    "log_scale_bound": 1.0,
    "dequantization_steps": 1,
    "steps": 800,
    "batch": 8,
    "crop": 32,
    "crop_scales": [1.0, 0.5],
    "mean_weight": 1.0,
    "learning_rate": 3e-3,
    "warm_up_steps": 50,
    "level_off_step": 600,
    "epoch_steps": 400,
    "checkpoint_steps": 800,
    "ema_decay": 0.99,
    "validation_crops": 16,
}
"""Small model with all optional parts: own and cross blocks, a mean network with features, dequantization."""


def write_bundle(trained: Path, bundle: Path) -> None:
    """Export a checkpoint, without the files for people, which no test reads."""
    export(trained, bundle, ExportOptions(force=True))
    for name in (CARD, SHEET):
        (bundle / name).unlink(missing_ok=True)


def make_completing() -> None:
    """Write a bundle for each task that completes images, named after the task."""
    with TemporaryDirectory() as folder:
        for task in (MaskedInpainting(), ColorHints()):
            torch.manual_seed(0)
            model = small_model(torch.float32, **COMPLETING | {"task": task})
            checkpoint.save(Path(folder) / "model.pt", model)
            write_bundle(Path(folder) / "model.pt", DATA / f"{task.task}.caflow")


def make_tiny() -> None:
    """Train, export and calibrate `tiny.caflow`."""
    with TemporaryDirectory() as folder:
        write_bundle(train(recipe_from_dict(RECIPE), PHOTOGRAPHS, Path(folder)), TINY)
    with load(TINY, backend="cpu") as pipe:
        crops = with_grey_copies(pipe.manifest.model, pairs_of_photographs(pipe, PHOTOGRAPHS))
        write_calibration(TINY, calibrate(pipe, crops, [CALIBRATED_TEMPERATURE]))


if __name__ == "__main__":
    make_completing()
    make_tiny()
