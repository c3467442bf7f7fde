"""Benchmark of typicality: which images it detects, which it rejects by mistake, and how fast pairs are scored.

The true images are photographs that were used neither for training nor for calibration (`models/photographs.py unseen`,
and `last`, which is kept for the last evaluation). They are compared with altered copies, with results of other
methods, and with images that are not photographs. The scores include typicality without the statistics of latents.

With `--pairs` the conditions come from a folder and may be degraded. Then sets of pairs that match their conditions
exactly are skipped, since no true pair does. There are no grey copies, and no rates.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click
import cv2
import msgspec
import numpy as np
import report
from metrics import Picture
from numpy.typing import NDArray
from peers import installed, resampled
from PIL import Image
from scipy.stats import mannwhitneyu

from caflow_runtime.bundle import builtin
from caflow_runtime.jobs.photographs import Pair, pairs_of, photographs_in, with_grey_copies
from caflow_runtime.ood.typicality import covariates, distance_of
from caflow_runtime.ood.typicality_model import ImageStatistic, TypicalityModel
from caflow_runtime.pipeline.pipeline import Pipeline, load

PHOTOGRAPHS = Path("build/photographs")
SIDES = (64, 128, 256)
SIDE = 128
"""Side of the crops that are altered, in pixels."""
ALPHAS = (0.01, 0.05, 0.1)
RESAMPLES = 2000
TIMED_PAIRS, ROUNDS = 32, 5
PEERS = ("bicubic", "srmdnf", "dat-light")
PACKAGES = ("onnxruntime", "opencv-python-headless", "scipy")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of pairs, (R,) each. Pairs with higher scores are rejected less often."""

    typical: Floats
    """Negative Mahalanobis distance from typical pairs. Typicality is the rank of this distance."""
    levels: Floats
    """Like `typical`, computed from the levels' bits per dimension only."""
    likelihood: Floats
    """Negative bits/dim."""
    consistency: Floats
    """PSNR of the target, degraded again, against the condition, in dB."""


@dataclass(frozen=True)
class Judged:
    """Pairs with their scores and typicality."""

    names: list[str]
    """Name of each pair's photograph."""
    scores: Scores
    typicality: Floats
    group: NDArray[np.str_]

    def part(self, which: NDArray[np.bool_]) -> "Judged":
        """Return the pairs for which `which`, (R,), is True."""
        scored = Scores(*(getattr(self.scores, name)[which] for name in Scores.__dataclass_fields__))
        names = [name for name, taken in zip(self.names, which, strict=True) if taken]
        return Judged(names, scored, self.typicality[which], self.group[which])


def judged(pipe: Pipeline, pairs: Iterable[Pair]) -> Judged:
    """Return the pairs with their scores and typicality."""
    truth, model = pipe.calibration.truth, pipe.manifest.model
    names, found, values, groups = [], [], [], []
    for pair in pairs:
        scored = pipe.score(pair.target, pair.condition)
        typical = scored.image_typicality
        assert typical is not None
        given = covariates(pair.condition, model)
        distances = [
            -distance_of(one, scored.measures[0, : one.main.measures], given) for one in (truth, levels_of(truth))
        ]
        measured = pipe.consistency.psnr(pair.target, pair.condition)
        names.append(pair.photograph)
        found.append((*distances, -scored.bits_per_dim[0], measured))
        values.append(typical.value[0])
        groups.append(typical.group[0])
    return Judged(names, Scores(*np.array(found).T), np.array(values), np.array(groups))


def levels_of(truth: TypicalityModel) -> TypicalityModel:
    """Return the reference without the statistics of latents: only the levels' bits per dimension remain."""

    def levels(kind: ImageStatistic | None) -> ImageStatistic | None:
        if kind is None:
            return None
        n = kind.levels
        covariance = np.linalg.inv(np.array(kind.precision))[:n, :n]
        precision = np.linalg.inv((covariance + covariance.T) / 2)
        changes = {"mean": kind.mean[:n], "log_spread": kind.log_spread[:n], "precision": precision.tolist()}
        return msgspec.structs.replace(kind, **changes)

    return TypicalityModel(None, levels(truth.coloured), levels(truth.grey))


def crops(pipe: Pipeline, folder: Path, sides: tuple[int, ...]) -> list[Pair]:
    """Return crops of all photographs in a folder as pairs, or the folder's pairs if it has the subfolders A and B."""
    model, degrade = pipe.manifest.model, pipe.consistency.degraded
    return [pair for one in photographs_in(folder) for pair in pairs_of(one, model, degrade, sides)]


def jpeg(picture: Picture, quality: int) -> Picture:
    """Return the picture after coding and decoding as JPEG."""
    _, coded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB), np.uint8)


def noisy(picture: Picture, deviation: float) -> Picture:
    """Return the picture with Gaussian noise. The seed depends on the picture only."""
    seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:4], "little")
    noise = np.random.default_rng(seed).normal(0, deviation, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def shifted(picture: Picture, levels: int) -> Picture:
    """Return the picture with red increased and blue decreased by `levels` grey levels."""
    return np.asarray(np.clip(picture + np.array([levels, 0, -levels]), 0, 255), np.uint8)


def blurred(picture: Picture, sigma: float) -> Picture:
    """Return the picture, blurred by a Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


SPOILT: dict[str, Callable[[Picture], Picture]] = {
    "blur, σ = 0.7": lambda picture: blurred(picture, 0.7),
    "blur, σ = 1.5": lambda picture: blurred(picture, 1.5),
    "JPEG, quality 10": lambda picture: jpeg(picture, 10),
    "JPEG, quality 50": lambda picture: jpeg(picture, 50),
    "noise, σ = 4": lambda picture: noisy(picture, 4),
    "noise, σ = 10": lambda picture: noisy(picture, 10),
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
    for name, upscale in installed(PEERS):
        yield f"result of {name}", [Pair(p.photograph, upscale(p.condition), p.condition) for p in pairs]
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
    yield "no photographs, conditions of their own", crops(pipe, PHOTOGRAPHS / "domains", (SIDE,))


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
    """Return the AUROC of each score, and the fraction of wrong pairs that is rejected at α = 0.05.

    The 95 % intervals of the AUROC are by bootstrap over photographs.
    """
    rng = np.random.default_rng(0)
    groups, wrong_groups = members(true.names), members(wrong.names)
    row: dict[str, Any] = {}
    for name in Scores.__dataclass_fields__:
        a, b = getattr(true.scores, name), getattr(wrong.scores, name)
        drawn = [auroc(a[redrawn(groups, rng)], b[redrawn(wrong_groups, rng)]) for _ in range(RESAMPLES // 4)]
        low, high = interval(drawn)
        row[name] = auroc(a, b)
        row[f"{name} 95 %"] = f"{low:.3f}–{high:.3f}"
    row["rejected at 0.05"] = float((wrong.typicality < 0.05).mean())
    return row


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


def rates(pipe: Pipeline, pairs: list[Pair]) -> list[dict[str, Any]]:
    """Return the pairs per second of scoring and the images per second of sampling. The runs take turns."""
    given = pairs[:TIMED_PAIRS]
    targets, conditions = [pair.target for pair in given], [pair.condition for pair in given]
    seconds = report.side_by_side(
        {
            "score": lambda: pipe.score(targets, conditions),
            "sample": lambda: pipe.best_of(conditions, n=1),
            "best of 10": lambda: pipe.best_of(conditions, n=10),
            "best of 10, each sample scored": lambda: [
                pipe.score(list(drawn), [condition] * 10)
                for drawn, condition in zip(pipe.sample(conditions, n=10).images, conditions, strict=True)
            ],
        },
        ROUNDS,
    )
    return [{"what": name, f"{SIDE}×{SIDE} per s": len(given) / value} for name, value in seconds.items()]


def by_part(truth: Judged) -> list[dict[str, Any]]:
    """Return the false rejection for parts of the crops, because the figure for all crops may be misleading.

    The parts are the groups of typicality, and photographs of food, which are all small, against all others.
    """
    parts = {str(name): truth.group == name for name in np.unique(truth.group)}
    is_food = np.array([name.endswith(".jpeg") for name in truth.names])
    if is_food.any():
        parts |= {"of food": is_food, "of all else": ~is_food}
    rows = []
    for name, which in parts.items():
        part = truth.part(which)
        found = false_rejection(part.typicality, part.names)
        rates = {f"rejected at {alpha}": value["rate"] for alpha, value in found.items()}
        low, high = found["0.05"]["interval"]
        rows.append({"crops": name, "number": len(part.names), **rates, "0.05, 95 %": f"{low:.3f}–{high:.3f}"})
    return rows


@click.command()
@click.argument("bundle", default=builtin.DEFAULT)
@click.option("--photographs", "kind", type=click.Choice(["unseen", "last"]), default="unseen", show_default=True)
@click.option(
    "--pairs",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Judge the pairs of this folder, which models/calibration_pairs.py wrote, instead of crops of photographs.",
)
@report.options
def main(bundle: str, kind: str, folder: Path | None, threads: int, json_file: Path | None) -> None:
    """Evaluate the calibration of BUNDLE.

    First fetch "unseen" or "last", "domains" and "test" with models/photographs.py.
    """
    with load(bundle, backend="cpu", threads=threads) as pipe:
        pairs = crops(pipe, folder or PHOTOGRAPHS / kind, SIDES)
        truth = judged(pipe, pairs if folder else with_grey_copies(pipe.manifest.model, pairs))
        whole = false_rejection(truth.typicality, truth.names)
        parts = by_part(truth)
        given = [pair for pair in pairs if len(pair.target) == SIDE]
        true = judged(pipe, given)
        rows = []
        for name, wrong in chain(wrong_pairs(pipe, given), () if folder else consistent_pairs(pipe, given)):
            rows.append({"against": name, "pairs": len(wrong), **detection(true, judged(pipe, wrong))})
            report.show(rows[-1:])
        speeds = [] if folder else rates(pipe, given)
    for table in filter(None, (rows, [{"alpha": alpha, **value} for alpha, value in whole.items()], parts, speeds)):
        report.show(table)
        print()
    figures = {"false_rejection": whole, "false_rejection_by_part": parts, "rates": speeds}
    report.write(json_file, rows, PACKAGES, figures, threads=threads, side=SIDE, photographs=str(folder or kind))


if __name__ == "__main__":
    main()
