"""Make pairs of masks or hints and photographs for the calibration of a model that completes images.

    python models/completion_pairs.py inpaint-photo build/photographs/calibration build/inpaint-photo-pairs

Holes are those of training, and hints are dots of the true colours at random places. Each photograph gets a separate
folder in OUT/A (masks or hints) and in OUT/B (crops), so that `caflow calibrate` counts its crops as one photograph.
"""

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.image_arrays import Image
from caflow_runtime.image_io.image_files import write_image
from caflow_training.completion_tasks import ColorHints, MaskedInpainting
from caflow_training.crop_sampler import CropSampler
from caflow_training.photographs import Photographs, find_photographs
from caflow_training.recipe import Recipe, load_recipe
from caflow_training.tasks import Colorization

CROPS = {64: 1, 128: 1, 256: 1}
"""Number of crops of each photograph by their side in pixels."""
SCALES = (1.0, 0.5, 0.25)


@click.command()
@click.argument("recipe")
@click.argument("photographs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def main(recipe: str, photographs: Path, out: Path) -> None:
    """Make pairs from PHOTOGRAPHS for a model of RECIPE, and write them to the folders A and B in OUT."""
    loaded = load_recipe(recipe)
    for side in CROPS:
        for number, path in enumerate(find_photographs(photographs, Colorization(), side).targets):
            _write_pairs(loaded, path, side, number, out)
    click.echo(f"{out}: pairs of {len(list((out / 'A').iterdir()))} photographs")


def _write_pairs(recipe: Recipe, photograph: Path, side: int, stream: int, out: Path) -> None:
    config = replace(recipe.training, crop=side, crop_scales=SCALES, crop_candidates=1)
    # Crops of the task Colorization are in RGB, and as large as photographs.
    crops = CropSampler(Photographs([photograph], None, {}), Colorization(), config, stream)
    targets = crops.batch(side, range(CROPS[side])).targets.permute(0, 2, 3, 1).numpy()
    for folder in ("A", "B"):
        (out / folder / photograph.name).mkdir(parents=True, exist_ok=True)
    for k, target in enumerate(targets):
        rng, name = np.random.default_rng((stream, side, k)), f"{photograph.name}/{side}-{k}.png"
        write_image(out / "B" / name, target)
        if isinstance(recipe.model.task, ColorHints):
            hints = _hints(recipe.model.task, target, rng)
            write_image(out / "A" / name, hints[..., :3], hints[..., 3])
        elif isinstance(recipe.model.task, MaskedInpainting):
            mask = 255 - replace(recipe.model.task, smooth_share=1.0).degrade(target, rng)[..., 3:]
            write_image(out / "A" / name, np.repeat(mask, 3, 2))


def _hints(task: ColorHints, target: Image, rng: np.random.Generator) -> Image:
    """Return a picture with dots of the true colours, (H, W, 4). Few are drawn as often as many."""
    height, width = target.shape[:2]
    count = round(task.max_dots ** rng.random())
    places = zip(rng.integers(width, size=count).tolist(), rng.integers(height, size=count).tolist(), strict=True)
    points = [Point(x, y, tuple(target[y, x].tolist())) for x, y in places]
    return draw_hints(height, width, points)


if __name__ == "__main__":
    main()
