"""What a model gains from knowing how its input was degraded, and how well it estimates that.

A model with `degradation_aware` enlarges the conditions of `quality.py`, 64→256, three times: with the degradation that
it estimates, with the true one, and with that of a clean condition, whatever the condition is. The results are compared
photograph by photograph.
"""

from pathlib import Path

import click
import numpy as np
import report
import torch
from degradations import DEGRADATIONS
from metrics import WHOLE, Crop, Judge, psnr
from numpy.typing import NDArray
from quality import PHOTOGRAPHS, Case, Row, Temperature, mean_difference, parsed

from caflow_runtime.degradation import (
    GROUP_NAMES,
    GROUPS,
    MAX_BLUR_SIGMA,
    MAX_CRF,
    MAX_NOISE_SIGMA,
    MIN_JPEG_QUALITY,
    Degradation,
)
from caflow_runtime.pipeline.pipeline import Pipeline, load

TRUE = {
    "clean": Degradation(),
    "jpeg90": Degradation(jpeg_quality=90),
    "jpeg75": Degradation(jpeg_quality=75),
    "jpeg30": Degradation(jpeg_quality=30),
    "noise5": Degradation(noise_sigma=5),
    "noise5-jpeg75": Degradation(noise_sigma=5, jpeg_quality=75),
    "blur3": Degradation(blur_sigma=3),
    "h264-crf28": Degradation(codec="h264", crf=28),
}
"""Degradation of the conditions, by name in `DEGRADATIONS`."""
KINDS = ("blur", "noise", "jpeg", "video")
"""Groups of parameters that the degradations of the evaluation have."""
PRESENT = 0.07
"""Least sum of a group's values that counts as this kind of degradation. It is half the value of JPEG quality 90."""
ENDS = ((0, MAX_BLUR_SIGMA), (0, MAX_NOISE_SIGMA), (100, MIN_JPEG_QUALITY), (0, MAX_CRF))
"""What 0 and 1 mean for each of `KINDS`: standard deviations of blur and noise, JPEG quality, and CRF of a video."""
PACKAGES = ("av", "lpips", "onnxruntime", "pillow")

Vectors = NDArray[np.float32]
"""(N, 13) values of `Degradation.vector`."""


def judged(
    pipe: Pipeline, judge: Judge, given: list[Crop], vector: NDArray[np.float32] | None, temperature: Temperature
) -> dict[str, list[float]]:
    """Return LPIPS and PSNR of one sample of each crop. `vector` is what the model is told; None lets it estimate."""
    # `assume` of `load` does not know videos, so it cannot tell the model all values of a degradation.
    pipe.runner._known = {} if vector is None else dict(enumerate(vector.tolist()))
    samples = [pipe.best_of(crop.condition, 1, temperature, seed=k).images[0] for k, crop in enumerate(given)]
    pipe.runner._known = {}
    targets = [crop.target for crop in given]
    return {"lpips": judge.lpips(samples, targets), "psnr": list(map(psnr, samples, targets))}


def compared(pipe: Pipeline, judge: Judge, given: list[Crop], name: str, temperature: Temperature) -> Row:
    """Return the metrics of the three ways, and their mean differences with half widths of intervals of 95 %."""
    told = {"estimated": None, "true": TRUE[name].vector(), "none": Degradation().vector()}
    of = {way: judged(pipe, judge, given, vector, temperature) for way, vector in told.items()}
    row: Row = {"degradation": name, "photographs": len(given)}
    for metric in ("lpips", "psnr"):
        row |= {f"{metric}, {way}": float(np.mean(values[metric])) for way, values in of.items()}
        for first, second in (("estimated", "none"), ("true", "none"), ("true", "estimated")):
            mean, half = mean_difference(of[first][metric], of[second][metric])
            row |= {f"{metric}, {first} − {second}": mean, f"{metric}, {first} − {second} ±": half}
    return row


def groups(vectors: Vectors) -> dict[str, NDArray[np.float32]]:
    """Return the sums of the values of each of `KINDS`, (N,), by name."""
    columns = np.array(GROUPS)
    return {kind: vectors[:, columns == GROUP_NAMES.index(kind)].sum(1) for kind in KINDS}


def estimates(vectors: Vectors, name: str) -> Row:
    """Return the estimates for one degradation in usual units, mean and standard deviation, and how many are right.

    An estimate is right if it has the kinds of degradation that the true one has, and no others.
    """
    found, true = groups(vectors), groups(TRUE[name].vector()[None])
    row: Row = {"degradation": name}
    for kind, (at_0, at_1) in zip(KINDS, ENDS, strict=True):
        values = at_0 + (at_1 - at_0) * found[kind]
        row |= {f"{kind}, true": float(at_0 + (at_1 - at_0) * true[kind][0])}
        row |= {f"{kind}, mean": float(values.mean()), f"{kind} ±": float(values.std(ddof=1))}
    right = np.all([(found[kind] > PRESENT) == (true[kind] > PRESENT) for kind in KINDS], 0)
    return row | {"kinds right": float(right.mean())}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--kind", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option("--degradation", "names", type=click.Choice(list(DEGRADATIONS)), multiple=True, default=[*DEGRADATIONS])
@click.option("--temperature", type=parsed, default="0", show_default=True, help="Temperature of the samples.")
@click.option("--photographs", type=int, help="Use only this number of photographs of each set, for a quick look.")
@report.options
def main(
    bundle: Path,
    kind: str,
    names: tuple[str, ...],
    temperature: Temperature,
    photographs: int | None,
    threads: int,
    json_file: Path | None,
) -> None:
    """Judge BUNDLE, a model that is told how its input was degraded.

    Download the files first: python models/photographs.py KIND build/photographs/KIND, where KIND is test, last, unseen
    and metrics.
    """
    torch.set_num_threads(threads)
    judge = Judge(PHOTOGRAPHS / "metrics")
    rows, estimated = list[Row](), list[Row]()
    with load(bundle, "cpu", threads) as pipe:
        for name in names:
            given = Case(pipe.manifest.model.scale, WHOLE, name).crops(kind, photographs)
            vectors = pipe.runner.degradations([crop.condition for crop in given])
            if vectors is None:
                raise click.UsageError(f"{bundle} is not told how its input was degraded: use another model")
            estimated.append(estimates(vectors, name))
            rows.append(compared(pipe, judge, given, name, temperature))
            figures = {"estimates": estimated}
            report.write(json_file, rows, PACKAGES, figures, kind=kind, temperature=temperature, threads=threads)
    report.show(rows)
    print()
    report.show(estimated)


if __name__ == "__main__":
    main()
