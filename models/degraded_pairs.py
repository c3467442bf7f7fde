"""Make pairs of degraded conditions and true targets for the calibration of a model.

    python models/degraded_pairs.py x4-real build/photographs/calibration build/x4-real-pairs

Conditions are degraded in the same way as in the recipe's training, but none shows a pattern. Each photograph gets a
separate folder in OUT/A (conditions) and in OUT/B (targets), so that `caflow calibrate` counts its crops as one
photograph.
"""

from dataclasses import replace
from pathlib import Path

import click

from caflow_runtime.image_io.image_files import write_image
from caflow_training.crop_sampler import CropSampler
from caflow_training.photographs import Photographs, find_photographs
from caflow_training.recipe import Recipe, load_recipe

CROPS = {64: 2, 128: 2, 256: 1}
"""Number of crops of each photograph by their side in pixels. Large ones take most of the time."""
SCALES = (1.0, 0.5, 0.25, 0.125)


@click.command()
@click.argument("recipe")
@click.argument("photographs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def main(recipe: str, photographs: Path, out: Path) -> None:
    """Make pairs from PHOTOGRAPHS with the degradations of RECIPE, and write them to the folders A and B in OUT."""
    loaded = load_recipe(recipe)
    for side in CROPS:
        for number, path in enumerate(find_photographs(photographs, loaded.model.task, side).targets):
            _write_pairs(loaded, path, side, number, out)
    click.echo(f"{out}: pairs of {len(list((out / 'A').iterdir()))} photographs")


def _write_pairs(recipe: Recipe, photograph: Path, side: int, stream: int, out: Path) -> None:
    config = replace(recipe.training, crop=side, crop_scales=SCALES, crop_candidates=1)
    degradations = replace(recipe.degradations, pattern_share=0.0)
    crops = CropSampler(Photographs([photograph], None, {}), recipe.model.task, config, stream, degradations)
    batch = crops.batch(side, range(CROPS[side]))
    for folder, images in (("A", batch.conditions), ("B", batch.targets)):
        place = out / folder / photograph.name
        place.mkdir(parents=True, exist_ok=True)
        for k, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            write_image(place / f"{side}-{k}.png", image)


if __name__ == "__main__":
    main()
