"""What does typicality detect, what does it reject by mistake, and do samples differ as much as the truth is uncertain?

`detect`: the true images are photographs that were used neither for training nor for calibration
(`models/photographs.py unseen`, and `last`, which is kept for the last evaluation). They are compared with altered
copies, with results of other methods, and with images that are not photographs. With `--pairs` the conditions come from
a folder and may be degraded. Then sets of pairs that match their conditions exactly are skipped, since no true pair
does, and there are no grey copies.

`coverage`: 19 samples of each condition of `quality.py`, 64→256, are drawn at τ = 1. If the true image were one more
sample, the mean of a block would lie between those of the lowest and the highest sample in 90 % of the blocks. `caflow
calibrate` measures one block of each crop, relative to the block around it. Here all blocks count, with absolute means,
for each degradation separately.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
from degradations import DEGRADATIONS, blurred, degraded, jpeg, noisy
from metrics import WHOLE, Crop, Picture, crops, folder_of, mean_difference
from numpy.typing import NDArray
from peers import resampled
from PIL import Image
from scipy.stats import mannwhitneyu

from caflow_deploy.filtering.calibrate import SAMPLES
from caflow_deploy.images.photographs import Pair, pairs_of, photographs_in, with_grey_copies
from caflow_runtime.bundle import builtin
from caflow_runtime.ood.coverage import rank_of
from caflow_runtime.ood.typicality import covariates, distance_of
from caflow_runtime.pipeline.pipeline import Pipeline, load

SIDES = (64, 128, 256)
SIDE = 128
"""Side of the crops that are altered, in pixels."""
ALPHAS = (0.01, 0.05, 0.1)
RESAMPLES = 2000
BLOCKS = (4, 16, 64)
"""Sides of the blocks of `coverage`, in pixels."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Scores of pairs, (R,) each. Pairs with higher scores are rejected less often."""

    names: list[str]
    """Name of each pair's photograph."""
    typical: Floats
    """Negative Mahalanobis distance from typical pairs. Typicality is the rank of this distance."""
    likelihood: Floats
    """Negative bits/dim."""
    typicality: Floats


def judged(pipe: Pipeline, pairs: Iterable[Pair]) -> Judged:
    """Return the scores and the typicality of pairs."""
    truth, model = pipe.calibration.truth, pipe.manifest.model
    names, values = [], []
    for pair in pairs:
        scored = pipe.score(pair.target, pair.condition)
        assert scored.image_typicality is not None
        measures = scored.measures[0, : truth.main.measures]
        distance = distance_of(truth, measures, covariates(pair.condition, model))
        names.append(pair.photograph)
        values.append((-distance, -scored.bits_per_dim[0], scored.image_typicality.value[0]))
    return Judged(names, *np.array(values).T)


def pairs_in(pipe: Pipeline, folder: Path, sides: tuple[int, ...]) -> list[Pair]:
    """Return crops of all photographs in a folder as pairs, or the folder's pairs if it has the subfolders A and B."""
    model, degrade = pipe.manifest.model, pipe.consistency.degraded
    return [pair for one in photographs_in(folder) for pair in pairs_of(one, model, degrade, sides)]


def with_noise(picture: Picture, sigma: float) -> Picture:
    """Return the picture with Gaussian noise. The seed depends on the picture only."""
    return noisy(picture, sigma, np.random.default_rng(zlib.crc32(picture.tobytes())))


def shifted(picture: Picture, levels: int) -> Picture:
    """Return the picture with red increased and blue decreased by `levels` grey levels."""
    return np.asarray(np.clip(picture + np.array([levels, 0, -levels]), 0, 255), np.uint8)


SPOILT: dict[str, Callable[[Picture], Picture]] = {
    "blur, σ = 0.7": lambda picture: blurred(picture, 0.7),
    "blur, σ = 1.5": lambda picture: blurred(picture, 1.5),
    "JPEG, quality 10": lambda picture: jpeg(picture, 10),
    "JPEG, quality 50": lambda picture: jpeg(picture, 50),
    "noise, σ = 4": lambda picture: with_noise(picture, 4),
    "noise, σ = 10": lambda picture: with_noise(picture, 10),
    "colour shift by 4": lambda picture: shifted(picture, 4),
    "colour shift by 12": lambda picture: shifted(picture, 12),
}


def wrong_pairs(pipe: Pipeline, pairs: list[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """Yield sets of pairs that should be distinguished from true pairs, each with its name.

    Their conditions are those of the true pairs, however these were made.
    """
    others = [*pairs[1:], pairs[0]]
    yield "wrong condition", [Pair(a.photograph, a.target, b.condition) for a, b in zip(pairs, others, strict=True)]
    for name, spoil in SPOILT.items():
        yield name, [Pair(pair.photograph, spoil(pair.target), pair.condition) for pair in pairs]
    enlarged = resampled(Image.Resampling.BICUBIC)
    yield "result of bicubic", [Pair(p.photograph, enlarged(p.condition), p.condition) for p in pairs]
    for temperature in (0.0, 0.8, 1.0):
        drawn = [pipe.best_of(pair.condition, n=1, temperature=temperature).images[0] for pair in pairs]
        named = zip(pairs, drawn, strict=True)
        yield f"own sample, τ = {temperature:g}", [Pair(p.photograph, image, p.condition) for p, image in named]


def consistent_pairs(pipe: Pipeline, pairs: list[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """Yield sets whose targets degrade to their conditions exactly, as true pairs with clean conditions do."""
    for name, spoil in (("blur, σ = 1.5", SPOILT["blur, σ = 1.5"]), ("JPEG, quality 10", SPOILT["JPEG, quality 10"])):
        yield f"{name}, then made consistent", [consistent(pipe, spoil(pair.target), pair) for pair in pairs]
    enlarged = resampled(Image.Resampling.BICUBIC)
    yield "bicubic, made consistent", [consistent(pipe, enlarged(pair.condition), pair) for pair in pairs]
    yield "no photographs, conditions of their own", pairs_in(pipe, folder_of("domains"), (SIDE,))


def consistent(pipe: Pipeline, picture: Picture, pair: Pair) -> Pair:
    """Return a pair whose target is changed so that it degrades to the condition as exactly as the true target.

    Consistency cannot distinguish the new pair from the true pair.
    """
    changed = pipe.consistency.projected(picture + np.float32(0.5), pair.condition)
    return Pair(pair.photograph, np.asarray(np.rint(changed), np.uint8), pair.condition)


def auroc(true: Floats, wrong: Floats) -> float:
    """Return the probability that a true pair has a higher score than a wrong pair. Ties count half."""
    return float(mannwhitneyu(true, wrong).statistic / (len(true) * len(wrong)))


def interval(values: list[float]) -> list[float]:
    """Return the bounds of the central 95 % of the values."""
    return [float(bound) for bound in np.quantile(values, (0.025, 0.975))]


def detection(true: Judged, wrong: Judged) -> dict[str, Any]:
    """Return the AUROC of both scores, and the fraction of wrong pairs that is rejected at α = 0.05.

    The 95 % intervals of the AUROC are by bootstrap over photographs.
    """
    rng = np.random.default_rng(0)
    groups, wrong_groups = members(true.names), members(wrong.names)
    row: dict[str, Any] = {}
    for name in ("typical", "likelihood"):
        a, b = getattr(true, name), getattr(wrong, name)
        drawn = [auroc(a[redrawn(groups, rng)], b[redrawn(wrong_groups, rng)]) for _ in range(RESAMPLES // 4)]
        low, high = interval(drawn)
        row |= {name: auroc(a, b), f"{name} 95 %": f"{low:.3f}–{high:.3f}"}
    return row | {"rejected at 0.05": float((wrong.typicality < 0.05).mean())}


def members(names: list[str]) -> list[NDArray[np.int64]]:
    """Return the indices of the pairs of each photograph."""
    every = np.array(names)
    return [np.flatnonzero(every == name) for name in sorted(set(names))]


def redrawn(groups: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of the pairs of photographs that are drawn with replacement, as many as there are."""
    return np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])


def false_rejection(typicality: Floats, names: list[str]) -> dict[str, Any]:
    """Return, for each α, the fraction of true pairs that is rejected and its 95 % interval.

    The interval is by bootstrap over photographs.
    """
    rng = np.random.default_rng(0)
    groups = members(names)
    found: dict[str, Any] = {}
    for alpha in ALPHAS:
        rejected = typicality < alpha
        drawn = [float(rejected[redrawn(groups, rng)].mean()) for _ in range(RESAMPLES)]
        found[f"{alpha:g}"] = {"rate": float(rejected.mean()), "interval": interval(drawn)}
    return found


def block_means(image: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """Return the mean grey level of each block of side×side pixels of an image, (H, W, 3) uint8 RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    rows, columns = (length // side for length in grey.shape)
    return np.asarray(grey.reshape(rows, side, columns, side).mean((1, 3)).ravel())


def covered(pipe: Pipeline, given: list[Crop]) -> dict[int, list[float]]:
    """Return the fraction of covered blocks in each photograph, by the side of the blocks.

    Ties are broken at random.
    """
    rng, found = np.random.default_rng(0), {side: list[float]() for side in BLOCKS}
    for k, crop in enumerate(given):
        samples = pipe.sample(crop.condition, n=SAMPLES, temperature=1.0, seed=k).images[0]
        for side, fractions in found.items():
            truth, means = block_means(crop.target, side), np.stack([block_means(one, side) for one in samples], 1)
            ranks = [rank_of(value, around, rng) for value, around in zip(truth, means, strict=True)]
            fractions.append(float(np.mean([0 < rank < SAMPLES for rank in ranks])))
    return found


@click.group()
def main() -> None:
    """Evaluate a calibration."""


@main.command()
@click.argument("bundle", default=builtin.DEFAULT)
@click.option("--photographs", "kind", type=click.Choice(["unseen", "last"]), default="unseen", show_default=True)
@click.option(
    "--pairs",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Judge the pairs of this folder, which models/calibration_pairs.py wrote, instead of crops of photographs.",
)
@report.options
def detect(bundle: str, kind: str, folder: Path | None, threads: int, json_file: Path | None) -> None:
    """Measure what the calibration of BUNDLE detects, and what it rejects by mistake."""
    with load(bundle, backend="cpu", threads=threads) as pipe:
        pairs = pairs_in(pipe, folder or folder_of(kind), SIDES)
        truth = judged(pipe, pairs if folder else with_grey_copies(pipe.manifest.model, pairs))
        whole = false_rejection(truth.typicality, truth.names)
        given = [pair for pair in pairs if len(pair.target) == SIDE]
        true = judged(pipe, given)
        sets = chain(wrong_pairs(pipe, given), () if folder else consistent_pairs(pipe, given))
        rows = [{"against": name, "pairs": len(wrong), **detection(true, judged(pipe, wrong))} for name, wrong in sets]
    report.show(rows)
    report.show([{"alpha": alpha, **value} for alpha, value in whole.items()])
    settings: dict[str, Any] = {"threads": threads, "side": SIDE, "photographs": str(folder or kind)}
    report.write(json_file, rows, {"false_rejection": whole}, **settings)


@main.command()
@report.BUNDLE
@click.option("--degradation", "names", type=click.Choice(list(DEGRADATIONS)), multiple=True, default=[*DEGRADATIONS])
@report.options
def coverage(bundle: Path, names: tuple[str, ...], threads: int, json_file: Path | None) -> None:
    """Measure the coverage of the samples of BUNDLE."""
    rows = []
    with load(bundle, "cpu", threads) as pipe:
        clean = crops(folder_of("test"), WHOLE, pipe.manifest.model.scale)
        for name in names:
            row: dict[str, Any] = {"degradation": name, "photographs": len(clean)}
            for side, fractions in covered(pipe, [degraded(crop, name) for crop in clean]).items():
                row[f"side {side}"], row[f"side {side} ±"] = mean_difference(fractions, [0] * len(fractions))
            rows.append(row)
    report.show(rows)
    report.write(json_file, rows, samples=SAMPLES, threads=threads)


if __name__ == "__main__":
    main()
