"""How good are the results? Bundles and their peers, on clean and degraded photographs that no bundle was trained on.

Clean photographs are judged at 16→64 on 48 crops and at 64→256 on 12 photographs. Each degradation of
`degradations.py` is judged at 64→256 on 60 photographs: those 12, and the clean ones of `last` and `unseen` at half
their size. The difference of each row from the peer that `--against` names, over the same photographs, has an interval
of 95 %. Peers run if their packages are installed; `benchmarks/README.md` says how to install them.

Further commands judge the literature's test sets, hard inputs, the choice between the built-in models, and results by
eye.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import blind_look
import click
import hard_inputs
import literature_sets
import model_choice
import numpy as np
import report
import torch
from degradations import DEGRADATIONS, degraded
from metrics import (
    SCALE,
    WHOLE,
    Crop,
    Judge,
    Picture,
    Scores,
    crops,
    folder_of,
    held_out_crops,
    mean,
    mean_difference,
)
from peers import PEERS, installed

from caflow_runtime.pipeline.pipeline import Pipeline, load

SIDES = (64, WHOLE)
COMPARED = ("lpips", "psnr")
"""Metrics that are compared with a peer, photograph by photograph."""
N = 10
TIMED = 5


@dataclass(frozen=True)
class Case:
    """Size of the targets and degradation of one part of the table."""

    side: int
    degradation: str

    def crops(self, photographs: int | None, kind: str | None) -> list[Crop]:
        """Return the crops of the first photographs, of all if None, of a kind of photographs or the usual ones."""
        has_own = kind or self.degradation == "clean"
        given = crops(folder_of(kind or "test"), self.side) if has_own else held_out_crops()
        of_each = (WHOLE // 2 // self.side) ** 2 or 1
        return [degraded(crop, self.degradation) for crop in given[: photographs and photographs * of_each]]

    def row(self, method: str, temperature: float | None, n: int, rank: str, **values: Any) -> report.Row:
        """Return one row of the table."""
        of = {"method": method, "size": f"{self.side // SCALE}-{self.side}", "degradation": self.degradation}
        return {**of, "temperature": temperature, "n": n, "rank": rank, **values}


def peers(case: Case, names: tuple[str, ...], judge: Judge, given: list[Crop]) -> Iterator[report.Row]:
    """Judge the named peers that are installed, a row for each."""
    for name, upscale in installed(names):
        started = time.perf_counter()
        results = [upscale(crop.condition) for crop in given]
        took = (time.perf_counter() - started) / len(given)
        yield case.row(name, None, 1, "", **means(judge.scores(results, given)), seconds=took)


def ours(
    case: Case, method: str, pipe: Pipeline, judge: Judge, given: list[Crop], temperatures: tuple[float, ...]
) -> Iterator[report.Row]:
    """Judge a bundle: single samples at τ = 0 and at each temperature, and the likeliest of ten for clean photographs.

    Without temperatures, samples have the bundle's own.
    """
    is_clean = case.degradation == "clean"
    conditions = [crop.condition for crop in given]
    seconds = {n: seconds_of(pipe, conditions, n) if is_clean else None for n in (1, N)}
    for temperature in (0.0, *(temperatures or [pipe.manifest.model.sampling.temperature])):
        n = N if is_clean and temperature else 1
        drawn = [pipe.sample(c, n=n, temperature=temperature, seed=k) for k, c in enumerate(conditions)]
        for rank in ("", "likelihood")[: 1 + (n > 1)]:
            places = [0 if rank else int(np.flatnonzero(one.sample[0] == 0)[0]) for one in drawn]
            chosen: list[Picture] = [one.images[0][k] for one, k in zip(drawn, places, strict=True)]
            bits = float(np.mean([one.bits_per_dim[0, k] for one, k in zip(drawn, places, strict=True)]))
            of = n if rank else 1
            scores = means(judge.scores(chosen, given))
            yield case.row(method, temperature, of, rank, **scores, seconds=seconds[of], bits_per_dim=bits)


def means(scores: list[Scores]) -> report.Row:
    """Return the mean of each metric, and the values of each photograph for those that are compared with a peer."""
    each = {f"{metric} of each": [getattr(one, metric) for one in scores] for metric in COMPARED}
    return {**asdict(mean(scores)), **each}


def compared(rows: list[report.Row], against: str) -> list[report.Row]:
    """Return rows with their mean differences from the row of a peer, and the half widths of their 95 % intervals.

    The values of each photograph are left out.
    """
    peer = next((row for row in rows if row["method"] == against), None)
    for row in rows if peer else ():
        for metric in COMPARED:
            difference = mean_difference(row[f"{metric} of each"], peer[f"{metric} of each"]) if peer else ()
            row |= dict(zip((f"{metric} difference", f"{metric} ±"), difference, strict=True))
    return [{key: value for key, value in row.items() if not key.endswith("of each")} for row in rows]


def seconds_of(pipe: Pipeline, conditions: list[Picture], n: int) -> float:
    """Return the median seconds of a few calls, after one call to warm up."""
    times = []
    for condition in [conditions[0], *conditions[:TIMED]]:
        started = time.perf_counter()
        pipe.best_of(condition, n=n)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


@click.group()
def main() -> None:
    """Measure how good results are."""


@main.command("judge")
@report.BUNDLES
@click.option("--degradation", "names", type=click.Choice(list(DEGRADATIONS)), multiple=True, default=[*DEGRADATIONS])
@click.option("--peer", "peer_names", type=click.Choice(list(PEERS)), multiple=True, default=[*PEERS])
@click.option("--temperature", "temperatures", type=float, multiple=True, help="[default: that of each bundle]")
@click.option("--against", type=click.Choice(list(PEERS)), default="real-esrgan x4plus", show_default=True)
@click.option("--photographs", type=int, help="Use only this number of photographs of each set, for a quick look.")
@click.option("--kind", help="Use this kind of photographs in all rows, such as git-test.")
@report.options
def judge_bundles(
    bundles: tuple[Path, ...],
    names: tuple[str, ...],
    peer_names: tuple[str, ...],
    temperatures: tuple[float, ...],
    against: str,
    photographs: int | None,
    kind: str | None,
    threads: int,
    json_file: Path | None,
) -> None:
    """Judge each BUNDLE, a ×4 model, and its peers. τ = 0 is always measured."""
    torch.set_num_threads(threads)
    judge, rows = Judge(), list[report.Row]()
    with ExitStack() as stack:
        pipes = {f"caflow {folder.stem}": stack.enter_context(load(folder, "cpu", threads)) for folder in bundles}
        cases = [Case(side, name) for side in SIDES for name in names if name == "clean" or side == WHOLE]
        for case in cases:
            given = case.crops(photographs, kind)
            found = [*peers(case, peer_names, judge, given)]
            for method, pipe in pipes.items():
                found += ours(case, method, pipe, judge, given, temperatures)
            rows += compared(found, against)
            report.show(rows[-len(found) :])
            report.write(json_file, rows, threads=threads, photographs=photographs, kind=kind)


main.add_command(literature_sets.judge_sets)
main.add_command(hard_inputs.judge_hard_inputs)
main.add_command(model_choice.judge_choice)
main.add_command(blind_look.write_pairs)
main.add_command(blind_look.count_votes)

if __name__ == "__main__":
    main()
