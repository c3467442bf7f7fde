"""Quality of bundles and of their peers, on clean and degraded photographs that no bundle was trained on.

Clean photographs are judged at 16→64 on 48 crops and at 64→256 on 12 photographs. Each degradation of
`degradations.py` is judged at 64→256 on 60 photographs: those 12, and the clean ones of `last` and `unseen` at half
their size. The difference of each row from the peer that `--against` names, over the same photographs, has an interval
of 95 %. For a ×2 bundle the targets are the same, and the conditions have twice the
width and height. Peers run if their packages are installed; `benchmarks/README.md` says how to install them.

On clean photographs two claims of the paper are checked as well: a likelier sample is a better one, and the true image
is likelier than any sample.

With `--choose` the temperature of each bundle is chosen on the `validation` photographs, by the least mean LPIPS of
single samples. The test photographs are then judged at τ = 0 and at that temperature only.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from degradations import DEGRADATIONS, degraded
from diversity import Diversity, diversity
from metrics import WHOLE, Crop, Judge, Picture, Scores, crops, halved_crops, mean, psnr
from peers import PEERS, installed
from scipy.stats import t, wilcoxon

from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.results import Samples

PHOTOGRAPHS = Path("build/photographs")
SIDES = (64, WHOLE)
FURTHER = ("last", "unseen")
"""Kinds of photographs that no training and no choice of a temperature uses."""
COMPARED = ("lpips", "psnr")
"""Metrics that are compared with a peer, photograph by photograph."""
TEMPERATURES = ("0.5", "0.8", "0.9", "1")
N = 10
TIMED = 5
CHOOSING = 4
"""Number of samples of each validation crop at each temperature."""
PACKAGES = ("av", "lpips", "onnxruntime", "opencv-python-headless", "pillow", "scikit-image", "stlpips-pytorch")

Temperature = float | tuple[float, ...]
"""One temperature for all levels, or one for each level, coarsest first."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Scale, size of the targets and degradation of one part of the table."""

    scale: int
    side: int
    degradation: str

    @property
    def size(self) -> str:
        """Sides of condition and target, such as "16-64"."""
        return f"{self.side // self.scale}-{self.side}"

    def crops(self, kind: str, photographs: int | None) -> list[Crop]:
        """Return the crops of the first photographs of a kind, such as "test" or "training"; of all if None."""
        given = crops(PHOTOGRAPHS / kind, self.side, self.scale)
        if kind == "test" and self.degradation != "clean":
            given += [crop for name in FURTHER for crop in halved_crops(PHOTOGRAPHS / name, self.scale)]
        of_each = (WHOLE // 2 // self.side) ** 2 or 1
        return [degraded(crop, self.degradation) for crop in given[: photographs and photographs * of_each]]

    def row(self, method: str, temperature: Temperature | None, n: int, rank: str, **values: Any) -> Row:
        """Return one row of the table."""
        of = {"method": method, "size": self.size, "degradation": self.degradation}
        return {**of, "temperature": temperature, "n": n, "rank": rank, **values}


def peers(case: Case, names: tuple[str, ...], judge: Judge, given: list[Crop]) -> Iterator[Row]:
    """Judge the named peers that are installed, a row for each."""
    for name, upscale in installed(names, case.scale):
        started = time.perf_counter()
        results = [upscale(crop.condition) for crop in given]
        took = (time.perf_counter() - started) / len(given)
        yield case.row(name, None, 1, "", **means(judge.scores(results, given)), seconds=took)


def means(scores: list[Scores]) -> Row:
    """Return the mean of each metric, and the values of each photograph for those that are compared with a peer."""
    each = {f"{metric} of each": [getattr(one, metric) for one in scores] for metric in COMPARED}
    return {**asdict(mean(scores)), **each}


def differences(row: Row, peer: Row) -> Row:
    """Return the mean differences of a row from that of a peer, and the half widths of their 95 % intervals."""
    found: Row = {}
    for metric in COMPARED:
        mean, half = mean_difference(row[f"{metric} of each"], peer[f"{metric} of each"])
        found |= {f"{metric} difference": mean, f"{metric} ±": half}
    return found


def mean_difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the paired differences, and the half width of its 95 % interval."""
    found = np.subtract(values, others)
    half = t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(half)


def relative_difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the result of `mean_difference` in per cent of the mean of the others."""
    mean, half = mean_difference(values, others)
    return 100 * mean / float(np.mean(others)), 100 * half / float(np.mean(others))


def ours(
    case: Case, method: str, pipe: Pipeline, judge: Judge, given: list[Crop], temperatures: list[Temperature]
) -> tuple[list[Row], list[Row]]:
    """Judge a bundle. Return the rows of the table and, on clean photographs, the rows of the claims.

    The rows of the table are of single samples at τ = 0 and at each temperature. On clean photographs ten samples are
    drawn; their rows also have their diversity, and there are rows of other choices among them.
    """
    clean = case.degradation == "clean"
    conditions = [crop.condition for crop in given]
    seconds = {n: seconds_of(pipe, conditions, n) if clean else None for n in (1, N)}
    rows, claims = [], []
    for temperature in (0.0, *temperatures):
        n = N if clean and np.any(temperature) else 1
        drawn = [pipe.sample(c, n=n, temperature=temperature, seed=k) for k, c in enumerate(conditions)]
        more = {} if n == 1 else asdict(mean_diversity(judge, drawn, given))
        for rank, choose in CHOICES.items():
            if rank and n == 1:
                continue
            chosen = [choose(pipe, one, crop) for one, crop in zip(drawn, given, strict=True)]
            scores = means(judge.scores([picture for picture, _ in chosen], given))
            bits = [bits for _, bits in chosen if bits is not None]
            scores |= {"bits_per_dim": float(np.mean(bits)) if bits else None, **more}
            of = n if rank else 1
            rows.append(case.row(method, temperature, of, rank, **scores, seconds=seconds[of]))
        if n > 1:
            of_case = {"method": method, "size": case.size, "temperature": temperature}
            claims.append({**of_case, **claim(pipe, judge, given, drawn)})
    return rows, claims


def mean_diversity(judge: Judge, drawn: list[Samples], given: list[Crop]) -> Diversity:
    """Return the mean diversity over all crops."""
    found = [diversity(judge, one.images[0], crop.target) for one, crop in zip(drawn, given, strict=True)]
    return Diversity(*(float(np.mean([getattr(one, field.name) for one in found])) for field in fields(Diversity)))


def validated(
    case: Case, method: str, pipe: Pipeline, judge: Judge, given: list[Crop], temperatures: list[Temperature]
) -> Iterator[Row]:
    """Return the mean PSNR and LPIPS of single samples, a row for each temperature."""
    for temperature in temperatures:
        scores = []
        for k, crop in enumerate(given):
            images = list(pipe.sample(crop.condition, n=CHOOSING, temperature=temperature, seed=k).images[0])
            targets = [crop.target] * CHOOSING
            scores += list(zip(map(psnr, images, targets), judge.lpips(images, targets), strict=True))
        means = dict(zip(("psnr", "lpips"), np.mean(scores, 0).tolist(), strict=True))
        yield case.row(method, temperature, 1, "", **means)


def chosen(rows: list[Row], method: str, size: str, degradation: str | None) -> Temperature:
    """Return the temperature with the least LPIPS for one degradation, or on average over all if it is None."""
    lpips: dict[Temperature, list[float]] = {}
    for row in rows:
        if (row["method"], row["size"]) == (method, size) and degradation in (None, row["degradation"]):
            lpips.setdefault(row["temperature"], []).append(row["lpips"])
    return min(lpips, key=lambda temperature: float(np.mean(lpips[temperature])))


def first(_: Pipeline, drawn: Samples, __: Crop) -> tuple[Picture, float | None]:
    """Choose the first sample that was drawn, whatever its likelihood."""
    k = int(np.flatnonzero(drawn.sample[0] == 0)[0])
    return drawn.images[0][k], float(drawn.bits_per_dim[0, k])


def likeliest(_: Pipeline, drawn: Samples, __: Crop) -> tuple[Picture, float | None]:
    """Choose the likeliest sample, as the paper does."""
    return drawn.images[0][0], float(drawn.bits_per_dim[0, 0])


def closest(pipe: Pipeline, drawn: Samples, crop: Crop) -> tuple[Picture, float | None]:
    """Choose the sample that is most consistent with the condition."""
    values = [pipe.consistency.psnr(picture, crop.condition) for picture in drawn.images[0]]
    k = int(np.argmax(values))
    return drawn.images[0][k], float(drawn.bits_per_dim[0, k])


def average(_: Pipeline, drawn: Samples, __: Crop) -> tuple[Picture, float | None]:
    """Return the mean of all samples. It is not a sample, so it has no likelihood."""
    return np.rint(drawn.images[0].astype(np.float64).mean(0)).astype(np.uint8), None


CHOICES: dict[str, Callable[[Pipeline, Samples, Crop], tuple[Picture, float | None]]] = {
    "": first,
    "likelihood": likeliest,
    "consistency": closest,
    "mean": average,
}


def seconds_of(pipe: Pipeline, conditions: list[Picture], n: int) -> float:
    """Return the median seconds of a few calls, after one call to warm up."""
    times = []
    for condition in [conditions[0], *conditions[:TIMED]]:
        started = time.perf_counter()
        pipe.best_of(condition, n=n)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def claim(pipe: Pipeline, judge: Judge, given: list[Crop], drawn: list[Samples]) -> dict[str, Any]:
    """Check the two claims of the paper. Return one row.

    The row has the mean LPIPS and PSNR of the best, median and worst of N samples by likelihood, p-values of best
    against worst, and the fraction of crops whose true image is likelier than the best sample.
    """
    places = {"best": 0, "median": N // 2, "worst": N - 1}
    targets = [crop.target for crop in given]
    chosen = {name: [one.images[0][k] for one in drawn] for name, k in places.items()}
    scores = {
        "lpips": {name: np.array(judge.lpips(images, targets)) for name, images in chosen.items()},
        "psnr": {name: np.array(list(map(psnr, images, targets))) for name, images in chosen.items()},
    }
    found: dict[str, Any] = {}
    for metric, values in scores.items():
        found |= {f"{metric} {name}": float(value.mean()) for name, value in values.items()}
        found[f"{metric} p"] = float(wilcoxon(values["best"], values["worst"]).pvalue)
    truth = [pipe.score(crop.target, crop.condition).log_likelihood[0] for crop in given]
    samples = [
        pipe.score(one.images[0][0], crop.condition).log_likelihood[0] for one, crop in zip(drawn, given, strict=True)
    ]
    found["truth above best sample"] = float(np.mean(np.array(truth) > np.array(samples)))
    return found


def parsed(text: str) -> Temperature:
    """Parse a temperature, or several separated by commas, one for each level."""
    values = tuple(float(value) for value in text.split(","))
    return values if len(values) > 1 else values[0]


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--side", "sides", type=click.Choice(SIDES), multiple=True, default=SIDES, help="Sides of the targets.")
@click.option("--degradation", "names", type=click.Choice(list(DEGRADATIONS)), multiple=True, default=[*DEGRADATIONS])
@click.option("--peer", "peer_names", type=click.Choice(list(PEERS)), multiple=True, default=[*PEERS])
@click.option(
    "--temperature",
    "temperatures",
    type=parsed,
    multiple=True,
    default=TEMPERATURES,
    help="Temperature of the samples; repeat the option for several. 0 is always measured. Commas separate the levels, "
    "coarsest first: 0.9,0.8,0.8.",
)
@click.option(
    "--choose",
    type=click.Choice(["one", "each"]),
    help="Choose the temperature of each bundle on the validation photographs: one for each size, or one for each size "
    "and degradation.",
)
@click.option("--against", type=click.Choice(list(PEERS)), default="real-esrgan x4plus", show_default=True)
@click.option("--kind", type=click.Choice(["test", "training"]), default="test", show_default=True)
@click.option("--photographs", type=int, help="Use only this number of photographs of each set, for a quick look.")
@report.options
def main(
    bundles: tuple[Path, ...],
    sides: tuple[int, ...],
    names: tuple[str, ...],
    peer_names: tuple[str, ...],
    temperatures: tuple[Temperature, ...],
    choose: str | None,
    against: str,
    kind: str,
    photographs: int | None,
    threads: int,
    json_file: Path | None,
) -> None:
    """Judge each BUNDLE and its peers.

    Download the files first: python models/photographs.py KIND build/photographs/KIND, where KIND is test, metrics,
    for degradations last and unseen, for --choose validation, and training for --kind training, which measures how much
    better a model is on the photographs that it was trained with.
    """
    torch.set_num_threads(threads)
    judge = Judge(PHOTOGRAPHS / "metrics")
    rows: list[Row] = []
    validation: list[Row] = []
    claims: list[Row] = []
    with ExitStack() as stack:
        pipes = {f"caflow {folder.stem}": stack.enter_context(load(folder, "cpu", threads)) for folder in bundles}
        scales = sorted({pipe.manifest.model.scale for pipe in pipes.values()}, reverse=True)
        kinds = [(side, name) for side in sides for name in names if name == "clean" or side == WHOLE]
        cases = [Case(scale, side, name) for scale in scales for side, name in kinds]
        of_case = {case: {n: p for n, p in pipes.items() if p.manifest.model.scale == case.scale} for case in cases}
        for case in cases if choose else ():
            given = case.crops("validation", photographs)
            for method, pipe in of_case[case].items():
                validation += validated(case, method, pipe, judge, given, [*temperatures])
        for case in cases:
            given = case.crops(kind, photographs)
            found = [*peers(case, peer_names, judge, given)]
            for method, pipe in of_case[case].items():
                degradation = case.degradation if choose == "each" else None
                at = [chosen(validation, method, case.size, degradation)] if choose else [*temperatures]
                more, checked = ours(case, method, pipe, judge, given, at)
                found += more
                claims += checked
            compared = next((row for row in found if row["method"] == against), None)
            found = [summary(row | differences(row, compared) if compared else row) for row in found]
            show(found)
            rows += found
            figures = {"claims": claims, "validation": validation}
            report.write(json_file, rows, PACKAGES, figures, threads=threads, kind=kind, photographs=photographs)
    for table in (validation, claims):
        if table:
            show(table)


def summary(row: Row) -> Row:
    """Return a row without the values of each photograph."""
    return {key: value for key, value in row.items() if not key.endswith("of each")}


def show(rows: list[Row]) -> None:
    """Print a table. Values that a row does not have are left empty."""
    keys = dict.fromkeys(key for row in rows for key in row)
    print()
    report.show([{key: "" if row.get(key) is None else row[key] for key in keys} for row in rows])


if __name__ == "__main__":
    main()
