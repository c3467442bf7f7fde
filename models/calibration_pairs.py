"""Make pairs of conditions and true targets for the calibration of a model.

    python models/calibration_pairs.py x4-real build/photographs/calibration build/x4-real-pairs

Conditions are degraded in the same way as in the recipe's training, but none shows a pattern. Models that complete
images get masks with the holes of their training, or hints of the true colours at random places, in their place. Each
photograph gets a separate folder in OUT/A (conditions) and in OUT/B (targets), so that `caflow calibrate` counts its
crops as one photograph.
"""

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from caflow_deploy.images.image_files import write_image
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.image_arrays import Image
from caflow_training.completion_tasks import ColorHints, MaskedInpainting
from caflow_training.crop_sampler import CropSampler
from caflow_training.photographs import Photographs, find_photographs
from caflow_training.recipe import Recipe, load_recipe
from caflow_training.tasks import Colorization

CROPS = {64: 2, 128: 2, 256: 1}
"""Number of crops of each photograph by their side in pixels. Large ones take most of the time."""
SCALES = (1.0, 0.5, 0.25, 0.125)


@click.command()
@click.argument("recipe")
@click.argument("photographs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def main(recipe: str, photographs: Path, out: Path) -> None:
    """Make pairs from PHOTOGRAPHS as in the training of RECIPE, and write them to the folders A and B in OUT."""
    loaded = load_recipe(recipe)
    for side in CROPS:
        for number, path in enumerate(find_photographs(photographs, loaded.model.task, side).targets):
            _write_pairs(loaded, path, side, number, out)
    click.echo(f"{out}: pairs of {len(list((out / 'A').iterdir()))} photographs")


def _write_pairs(recipe: Recipe, photograph: Path, side: int, stream: int, out: Path) -> None:
    task = recipe.model.task
    config = replace(recipe.training, crop=side, crop_scales=SCALES, crop_candidates=1)
    degradations = replace(recipe.degradations, pattern_share=0.0)
    # Models that complete images are calibrated with whole RGB crops, as the task Colorization cuts them.
    of_crops = Colorization() if isinstance(task, MaskedInpainting | ColorHints) else task
    crops = CropSampler(Photographs([photograph], None, {}), of_crops, config, stream, degradations)
    batch = crops.batch(side, range(CROPS[side]))
    conditions, targets = (images.permute(0, 2, 3, 1).numpy() for images in (batch.conditions, batch.targets))
    for folder in ("A", "B"):
        (out / folder / photograph.name).mkdir(parents=True, exist_ok=True)
    for k, (condition, target) in enumerate(zip(conditions, targets, strict=True)):
        name, rng, alpha = f"{photograph.name}/{side}-{k}.png", np.random.default_rng((stream, side, k)), None
        if isinstance(task, MaskedInpainting):
            hole = replace(task, smooth_share=1.0).degrade(target, rng)[..., 3:] < 255
            condition = np.where(hole, np.uint8(255), np.zeros_like(target))
        elif isinstance(task, ColorHints):
            hints = _hints(task, target, rng)
            condition, alpha = hints[..., :3], hints[..., 3]
        write_image(out / "A" / name, condition, alpha)
        write_image(out / "B" / name, target)


def _hints(task: ColorHints, target: Image, rng: np.random.Generator) -> Image:
    """Return a picture with dots of the true colours, (H, W, 4). Few are drawn as often as many."""
    height, width = target.shape[:2]
    count = round(task.max_dots ** rng.random())
    places = zip(rng.integers(width, size=count).tolist(), rng.integers(height, size=count).tolist(), strict=True)
    points = [Point(x, y, tuple(target[y, x].tolist())) for x, y in places]
    return draw_hints(height, width, points)


if __name__ == "__main__":
    main()
