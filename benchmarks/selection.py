"""Gain of choosing among N samples, for several rankings.

32 samples are drawn for each of the 48 crops of `quality.py`, 16→64. A ranking chooses one of the first N. The gain is
the metric of the chosen sample minus the mean of the N samples. The regret is the metric of the best of the N samples
minus that of the chosen one.
"""

from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
import report
from metrics import WHOLE, Crop, Judge, crops, psnr
from numpy.typing import NDArray
from PIL import Image

from caflow_runtime.ood.typicality import covariates, distance_of
from caflow_runtime.pipeline.pipeline import Pipeline, load

PHOTOGRAPHS = Path("build/photographs")
SIDE = WHOLE // 4
NUMBERS = (1, 2, 4, 8, 16, 32)
TEMPERATURES = (0.8, 1.0)
PACKAGES = ("onnxruntime", "lpips", "matplotlib")
RESAMPLES = 1000

Floats = NDArray[np.float64]


def judged(pipe: Pipeline, judge: Judge, crop: Crop, temperature: float, seed: int) -> dict[str, Floats]:
    """Return the ranking values and the metrics of 32 samples, (32,) each, in the order of their numbers.

    Higher values are better in all of them.
    """
    drawn = pipe.sample(crop.condition, n=max(NUMBERS), temperature=temperature, seed=seed)
    order = np.argsort(drawn.sample[0])
    images = [drawn.images[0][k] for k in order]
    typicality_model, given = (
        pipe.calibration.typicality_model(temperature),
        covariates(crop.condition, pipe.manifest.model),
    )
    distances = [distance_of(typicality_model, bits, given) for bits in drawn.bits_per_dim_per_level[0]]
    return {
        "likelihood": drawn.log_likelihood[0][order],
        "typical": -np.array(distances)[order],
        "consistency": np.array([pipe.consistency.psnr(image, crop.condition) for image in images]),
        "psnr": np.array([psnr(image, crop.target) for image in images]),
        "−lpips": -np.array(judge.lpips(images, [crop.target] * len(images))),
    }


def curves(of_crops: list[dict[str, Floats]], temperature: float) -> list[dict[str, Any]]:
    """Return the mean gain and regret for each metric, ranking and N, with the gain's 95 % interval over crops."""
    rng = np.random.default_rng(0)
    rows = []
    for metric in ("psnr", "−lpips"):
        for rank in ("likelihood", "typical", "consistency"):
            for n in NUMBERS[1:]:
                chosen = np.array([one[metric][int(np.argmax(one[rank][:n]))] for one in of_crops])
                gains = chosen - np.array([one[metric][:n].mean() for one in of_crops])
                regrets = np.array([one[metric][:n].max() for one in of_crops]) - chosen
                means = [rng.choice(gains, len(gains)).mean() for _ in range(RESAMPLES)]
                low, high = np.quantile(means, (0.025, 0.975))
                rows.append(
                    {
                        "temperature": temperature,
                        "metric": metric,
                        "rank": rank,
                        "n": n,
                        "gain": float(gains.mean()),
                        "low": float(low),
                        "high": float(high),
                        "regret": float(regrets.mean()),
                    }
                )
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot gain and regret over N, with a row of panels for each temperature."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(TEMPERATURES), 4, figsize=(15, 3.4 * len(TEMPERATURES)), layout="constrained")
    for line, temperature in zip(axes, TEMPERATURES, strict=True):
        panels = [(metric, what) for metric in ("psnr", "−lpips") for what in ("gain", "regret")]
        for panel, (metric, what) in zip(line, panels, strict=True):
            for rank in ("likelihood", "typical", "consistency"):
                of_rank = [r for r in rows if (r["temperature"], r["metric"], r["rank"]) == (temperature, metric, rank)]
                numbers = [r["n"] for r in of_rank]
                panel.plot(numbers, [r[what] for r in of_rank], marker="o", label=rank)
                if what == "gain":
                    low, high = ([r[bound] for r in of_rank] for bound in ("low", "high"))
                    panel.fill_between(numbers, low, high, alpha=0.15)
            panel.axhline(0, color="grey", linewidth=0.8)
            panel.set_xscale("log", base=2)
            panel.set_xlabel("N")
            panel.set_title(f"{what} in {'dB' if metric == 'psnr' else 'LPIPS, up is good'}, τ = {temperature:g}")
    axes[0][0].legend()
    figure.savefig(path, dpi=90)
    Image.open(path).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(
        path, optimize=True
    )  # a quarter of the bytes


@click.command()
@click.option("--picture", type=click.Path(path_type=Path), help="Write a plot of the curves to this file.")
@report.options
def main(picture: Path | None, threads: int, json_file: Path | None) -> None:
    """Judge rankings of samples of the built-in model.

    Download the files first: python models/photographs.py KIND build/photographs/KIND, where KIND is test and metrics.
    """
    judge = Judge(PHOTOGRAPHS / "metrics")
    given = crops(PHOTOGRAPHS / "test", SIDE)
    rows: list[dict[str, Any]] = []
    with load(backend="cpu", threads=threads) as pipe:
        for temperature in TEMPERATURES:
            found = [judged(pipe, judge, crop, temperature, seed) for seed, crop in enumerate(given)]
            rows += curves(found, temperature)
    report.show(rows)
    report.write(json_file, rows, PACKAGES, crops=len(given), threads=threads)
    if picture:
        draw(rows, picture)


if __name__ == "__main__":
    main()
