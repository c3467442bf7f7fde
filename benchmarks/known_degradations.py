"""What a model gains from knowing how its input was degraded, and how well it estimates that.

A model with `degradation_aware` enlarges the conditions of `quality.py`, 64→256, three times: with the degradation that
it estimates, with the true one, and with that of a clean condition, whatever the condition is. The filter of the
reduction and dithering are always estimated. The results are compared photograph by photograph.
"""

from pathlib import Path

import click
import numpy as np
import report
import torch
from degradations import DEGRADATIONS
from metrics import WHOLE, Crop, Judge, psnr
from quality import PHOTOGRAPHS, Case, Row, Temperature, mean_difference, parsed

from caflow_runtime.pipeline.pipeline import Pipeline, load

CLEAN = {"blur": 0.0, "noise": 0.0, "jpeg": 100.0, "video": 0.0}
"""A clean condition, in the units of `Pipeline.degradation`."""
TRUE = {
    "clean": CLEAN,
    "jpeg90": CLEAN | {"jpeg": 90},
    "jpeg75": CLEAN | {"jpeg": 75},
    "jpeg30": CLEAN | {"jpeg": 30},
    "noise5": CLEAN | {"noise": 5},
    "noise5-jpeg75": CLEAN | {"noise": 5, "jpeg": 75},
    "blur3": CLEAN | {"blur": 3},
    "h264-crf28": CLEAN | {"video": 28},
}
"""Degradation of the conditions, by name in `DEGRADATIONS`."""
LEAST = {"blur": 0.3, "noise": 0.9, "jpeg": 5.0, "video": 2.3}
"""Least difference from a clean condition that counts as this kind of degradation. It is half that of JPEG quality 90,
and the same share of the range in training for the other kinds."""
PACKAGES = ("av", "lpips", "onnxruntime", "pillow")


def judged(pipe: Pipeline, judge: Judge, given: list[Crop], temperature: Temperature) -> dict[str, list[float]]:
    """Return LPIPS and PSNR of one sample of each crop."""
    samples = [pipe.best_of(crop.condition, 1, temperature, seed=k).images[0] for k, crop in enumerate(given)]
    targets = [crop.target for crop in given]
    return {"lpips": judge.lpips(samples, targets), "psnr": list(map(psnr, samples, targets))}


def compared(pipe: Pipeline, judge: Judge, given: list[Crop], name: str, temperature: Temperature) -> Row:
    """Return the metrics of the three ways, and their mean differences with half widths of intervals of 95 %."""
    told = {"estimated": pipe, "true": pipe.assuming(TRUE[name]), "none": pipe.assuming(CLEAN)}
    of = {way: judged(one, judge, given, temperature) for way, one in told.items()}
    row: Row = {"degradation": name, "photographs": len(given)}
    for metric in ("lpips", "psnr"):
        row |= {f"{metric}, {way}": float(np.mean(values[metric])) for way, values in of.items()}
        for first, second in (("estimated", "none"), ("true", "none"), ("true", "estimated")):
            mean, half = mean_difference(of[first][metric], of[second][metric])
            row |= {f"{metric}, {first} − {second}": mean, f"{metric}, {first} − {second} ±": half}
    return row


def estimates(found: list[dict[str, float]], name: str) -> Row:
    """Return the estimates for one degradation, mean and standard deviation, and how often the kinds are right.

    They are right if the estimate has the kinds of degradation that the true one has, and no others.
    """
    row: Row = {"degradation": name}
    for kind, true in TRUE[name].items():
        values = [one[kind] for one in found]
        row |= {
            f"{kind}, true": true,
            f"{kind}, mean": float(np.mean(values)),
            f"{kind} ±": float(np.std(values, ddof=1)),
        }
    right = [kinds(one) == kinds(TRUE[name]) for one in found]
    return row | {"kinds right": float(np.mean(right))}


def kinds(degradation: dict[str, float]) -> set[str]:
    """Return the kinds of degradation that differ from a clean condition."""
    return {kind for kind, clean in CLEAN.items() if abs(degradation[kind] - clean) > LEAST[kind]}


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
        if not pipe.is_told_degradation:
            raise click.UsageError(f"{bundle} is not told how its input was degraded: use another model")
        for name in names:
            given = Case(pipe.manifest.model.scale, WHOLE, name).crops(kind, photographs)
            found = [pipe.degradation(crop.condition) or {} for crop in given]
            estimated.append(estimates(found, name))
            rows.append(compared(pipe, judge, given, name, temperature))
            figures = {"estimates": estimated}
            report.write(json_file, rows, PACKAGES, figures, kind=kind, temperature=temperature, threads=threads)
    report.show(rows)
    print()
    report.show(estimated)


if __name__ == "__main__":
    main()
