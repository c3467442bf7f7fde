"""What calibrated likelihoods detect, whom they reject wrongly, and how fast pairs are scored.

Photographs that neither training nor calibration has seen (`models/photographs.py unseen`) are held against the same
pictures spoilt in many ways, against the results of other methods, and against images that are no photographs.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
from metrics import Picture
from numpy.typing import NDArray
from peers import installed, resampled
from PIL import Image
from scipy.stats import mannwhitneyu

from caflow_runtime.jobs.calibrate import Pair, pairs_of, photographs_in
from caflow_runtime.judge.consistency import consistency, project
from caflow_runtime.pipeline.pipeline import Pipeline, load

PHOTOGRAPHS = Path("build/photographs")
SIDES = (64, 128, 256)
SIDE = 128
"""Of the crops that are spoilt."""
ALPHAS = (0.01, 0.05, 0.1)
RESAMPLES = 2000
TIMED_PAIRS, ROUNDS = 32, 5
PEERS = ("bicubic", "srmdnf", "dat-light")
PACKAGES = ("onnxruntime", "opencv-python-headless", "scipy")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of pairs, (R,) each: the more, the less likely to be rejected."""

    typicality: Floats
    likelihood: Floats
    """−bits/dim."""
    consistency: Floats
    """LR-PSNR, dB."""


def scores(pipe: Pipeline, pairs: Iterable[Pair]) -> Scores:
    """Of each pair."""
    found = []
    for pair in pairs:
        scored = pipe.score(pair.target, pair.condition)
        assert scored.typicality is not None
        measured = consistency(pipe.manifest.model, pair.target, pair.condition)
        found.append((scored.typicality.value[0], -scored.bits_per_dim[0], measured))
    return Scores(*np.array(found).T)


def crops(pipe: Pipeline, kind: str, sides: tuple[int, ...]) -> list[Pair]:
    """Of all files of a kind."""
    folder = PHOTOGRAPHS / kind
    return [pair for path in photographs_in(folder) for pair in pairs_of(path, folder, pipe.manifest.model, sides)]


def jpeg(picture: Picture, quality: int) -> Picture:
    """Coded and decoded again."""
    _, coded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB), np.uint8)


def noisy(picture: Picture, deviation: float) -> Picture:
    """With Gaussian noise, of the picture's own seed."""
    seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:4], "little")
    noise = np.random.default_rng(seed).normal(0, deviation, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def shifted(picture: Picture, levels: int) -> Picture:
    """Redder and less blue."""
    return np.asarray(np.clip(picture + np.array([levels, 0, -levels]), 0, 255), np.uint8)


def blurred(picture: Picture, sigma: float) -> Picture:
    """By a Gaussian, in pixels."""
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
    """What should be told from true pairs, by name."""
    others = [*pairs[1:], pairs[0]]
    yield "wrong condition", [Pair(a.photograph, a.target, b.condition) for a, b in zip(pairs, others, strict=True)]
    for name, spoil in SPOILT.items():
        yield name, [Pair(pair.photograph, spoil(pair.target), pair.condition) for pair in pairs]
    for name, spoil in (("blur, σ = 1.5", SPOILT["blur, σ = 1.5"]), ("JPEG, quality 10", SPOILT["JPEG, quality 10"])):
        yield f"{name}, then made consistent", [consistent(pipe, spoil(pair.target), pair) for pair in pairs]
    enlarged = resampled(Image.Resampling.BICUBIC)
    yield "bicubic, made consistent", [consistent(pipe, enlarged(pair.condition), pair) for pair in pairs]
    for name, upscale in installed(PEERS):
        yield f"result of {name}", [Pair(p.photograph, upscale(p.condition), p.condition) for p in pairs]
    for temperature in (0.0, 0.8, 1.0):
        drawn = [pipe.best_of(pair.condition, n=1, temperature=temperature).images[0] for pair in pairs]
        named = zip(pairs, drawn, strict=True)
        yield f"own sample, τ = {temperature:g}", [Pair(p.photograph, image, p.condition) for p, image in named]
    yield "no photographs, conditions of their own", crops(pipe, "domains", (SIDE,))


def consistent(pipe: Pipeline, picture: Picture, pair: Pair) -> Pair:
    """What down-samples to the condition as exactly as the truth, so that consistency cannot tell it."""
    changed = project(pipe.manifest.model, picture + np.float32(0.5), pair.condition)
    return Pair(pair.photograph, changed, pair.condition)


def auroc(true: Floats, wrong: Floats) -> float:
    """Probability that a true pair has more than a wrong one; ties count half."""
    return float(mannwhitneyu(true, wrong).statistic / (len(true) * len(wrong)))


def interval(values: list[float]) -> list[float]:
    """95 % of them."""
    return [float(bound) for bound in np.quantile(values, (0.025, 0.975))]


def detection(true: Scores, names: list[str], wrong: Scores, wrong_names: list[str]) -> dict[str, Any]:
    """AUROC of each score, with its interval by bootstrap over photographs, and the share rejected at α = 0.05."""
    rng = np.random.default_rng(0)
    groups, wrong_groups = members(names), members(wrong_names)
    row: dict[str, Any] = {}
    for name in Scores.__dataclass_fields__:
        a, b = getattr(true, name), getattr(wrong, name)
        drawn = [auroc(a[redrawn(groups, rng)], b[redrawn(wrong_groups, rng)]) for _ in range(RESAMPLES // 4)]
        low, high = interval(drawn)
        row[name] = auroc(a, b)
        row[f"{name} 95 %"] = f"{low:.3f}–{high:.3f}"
    row["rejected at 0.05"] = float((wrong.typicality < 0.05).mean())
    return row


def members(names: list[str]) -> list[NDArray[np.int64]]:
    """Which pairs are of each photograph."""
    every = np.array(names)
    return [np.flatnonzero(every == name) for name in sorted(set(names))]


def redrawn(groups: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Pairs of as many photographs, drawn with replacement."""
    return np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])


def false_rejection(typicality: Floats, names: list[str]) -> dict[str, Any]:
    """At each α the share of true pairs that is rejected, its interval by bootstrap over photographs."""
    rng = np.random.default_rng(0)
    groups = members(names)
    found: dict[str, Any] = {}
    for alpha in ALPHAS:
        rejected = typicality < alpha
        drawn = [float(rejected[redrawn(groups, rng)].mean()) for _ in range(RESAMPLES)]
        found[f"{alpha:g}"] = {"rate": float(rejected.mean()), "interval": interval(drawn)}
    return found


def rates(pipe: Pipeline, pairs: list[Pair]) -> list[dict[str, Any]]:
    """Pairs per second of scoring, images per second of sampling, taking turns."""
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


def by_kind(pairs: list[Pair], typicality: Floats, small: list[bool]) -> list[dict[str, Any]]:
    """False rejection at 0.05 of parts of the photographs: where the whole may mislead."""
    sides = np.array([len(pair.target) for pair in pairs])
    parts = {f"{side}×{side}": sides == side for side in SIDES}
    parts |= {"of food, small": np.array(small), "of all else, large": ~np.array(small)}
    return [
        {"crops": name, "number": int(part.sum()), "rejected at 0.05": float((typicality[part] < 0.05).mean())}
        for name, part in parts.items()
    ]


@click.command()
@report.options
def main(threads: int, json_file: Path | None) -> None:
    """Judge the built-in model's calibration; first fetch unseen, domains and test with models/photographs.py."""
    with load(backend="cpu", threads=threads) as pipe:
        pairs = crops(pipe, "unseen", SIDES)
        names = [pair.photograph for pair in pairs]
        truth = scores(pipe, pairs)
        whole = false_rejection(truth.typicality, names)
        parts = by_kind(pairs, truth.typicality, [name.endswith(".jpeg") for name in names])
        others = crops(pipe, "test", SIDES)
        of_test = false_rejection(scores(pipe, others).typicality, [pair.photograph for pair in others])
        spoilable = [k for k, pair in enumerate(pairs) if len(pair.target) == SIDE]
        true = Scores(*(getattr(truth, name)[spoilable] for name in Scores.__dataclass_fields__))
        given = [pairs[k] for k in spoilable]
        rows = []
        for name, wrong in wrong_pairs(pipe, given):
            found = detection(true, [p.photograph for p in given], scores(pipe, wrong), [p.photograph for p in wrong])
            rows.append({"against": name, "pairs": len(wrong), **found})
        speeds = rates(pipe, given)
    for table in (rows, [{"alpha": alpha, **value} for alpha, value in whole.items()], parts, speeds):
        report.show(table)
        print()
    figures = {"false_rejection": whole, "false_rejection_by_part": parts, "false_rejection_of_test": of_test}
    report.write(json_file, rows, PACKAGES, figures | {"rates": speeds}, threads=threads, side=SIDE)


if __name__ == "__main__":
    main()
