"""Largest errors of samples, on photographs and on hard inputs.

The error of a sample is measured in 8×8 blocks: the mean of a channel in the block is compared with that of the
condition, enlarged by Pillow's bicubic filter. The largest difference of the sample counts. True images differ from
the enlarged condition too, as the last column shows.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from hard_inputs import hard_checkerboards, hard_drawings, hard_photographs
from metrics import WHOLE, Picture, crops, resize
from numpy.typing import NDArray

from caflow_runtime.pipeline.pipeline import Pipeline, load

CROPS = Path("build/photographs/test")
BLOCK = 8
PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow")


def off_by(images: NDArray[np.uint8], condition: Picture) -> NDArray[np.float64]:
    """Return the largest difference of a block's mean from the enlarged condition for each image, (N,), in grey levels.

    Arguments:
        images: (N, H, W, 3). H and W are multiples of 8, and equal multiples of the condition's height and width.
    """
    n, height, width, _ = images.shape
    difference = images.astype(np.float64) - resize(condition, (height, width))
    means = difference.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean((2, 4))
    largest: NDArray[np.float64] = np.abs(means).max((1, 2, 3))
    return largest


def enlarged(picture: Picture, scale: int) -> Picture:
    """Return a picture whose pixels are squares of scale×scale pixels."""
    return picture.repeat(scale, 0).repeat(scale, 1)


def measure(pipe: Pipeline, samples: int, temperatures: tuple[float, ...], only: str) -> list[dict[str, Any]]:
    """Return a row for each temperature and each kind of condition whose name ends with `only`.

    Without temperatures, the samples have the bundle's own. Targets are the whole photographs, 256×256, and the same
    photographs halved and cut into four 64×64 parts. The target of a checkerboard has the same cells, enlarged.
    """
    scale = pipe.manifest.model.scale
    whole, parts = (crops(CROPS, side, scale) for side in (WHOLE, WHOLE // 4))
    targets, halved = ([crop.target for crop in of] for of in (whole, parts))
    kinds: dict[str, tuple[list[Picture], list[Picture] | None]] = {
        **{kind: (conditions, targets) for kind, conditions in hard_photographs(whole).items()},
        **{kind: (of, [enlarged(one, scale) for one in of]) for kind, of in hard_checkerboards().items()},
        **{kind: (conditions, None) for kind, conditions in hard_drawings().items()},
        **{f"{kind}, halved": (of, halved) for kind, of in hard_photographs(parts).items() if "photo" in kind},
    }
    rows = []
    for kind, (conditions, true_images) in kinds.items():
        if not kind.endswith(only):
            continue
        pairs = zip(true_images, conditions, strict=True) if true_images else ()
        true = [float(off_by(image[None], condition)[0]) for image, condition in pairs]
        for temperature in temperatures or [pipe.manifest.model.sampling.temperature]:
            drawn = [
                off_by(pipe.sample(condition, n=samples, temperature=temperature, seed=k).images[0], condition)
                for k, condition in enumerate(conditions)
            ]
            every = np.concatenate(drawn)
            rows.append(
                {
                    "conditions": kind,
                    "temperature": temperature,
                    "samples": len(every),
                    "median": float(np.median(every)),
                    "99.9 %": float(np.quantile(every, 0.999)),
                    "largest": float(every.max()),
                    "largest of the truth": max(true, default=None),
                }
            )
    return rows


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--samples", default=10, show_default=True, help="Number of samples of each condition; seeds are fixed.")
@click.option("--temperature", "temperatures", type=float, multiple=True, help="[default: that of each bundle]")
@click.option(
    "--only", default="", help='Only conditions whose name ends with this text, such as "photographs, halved".'
)
@report.options
def main(
    bundles: tuple[Path, ...],
    samples: int,
    temperatures: tuple[float, ...],
    only: str,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure each BUNDLE.

    Download the photographs first: python models/photographs.py test build/photographs/test. The command fails if a
    sample is not finite.
    """
    rows = []
    for folder in bundles:
        with load(folder, backend="cpu", threads=threads) as pipe:
            rows += [{"method": f"caflow {folder.stem}", **row} for row in measure(pipe, samples, temperatures, only)]
    report.show([{key: "" if value is None else value for key, value in row.items()} for row in rows])
    report.write(json_file, rows, PACKAGES, block=BLOCK, threads=threads)


if __name__ == "__main__":
    main()
