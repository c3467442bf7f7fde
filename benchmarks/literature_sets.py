"""The literature's test sets for ×4: Set5, Set14, BSD100 and Urban100, measured as the published figures were.

The pictures and their reductions by MATLAB's bicubic filter are those of github.com/jbhuang0604/SelfExSR, which
`make build/test-sets` downloads. LPIPS (AlexNet), DISTS and LR-PSNR are of whole pictures in uint8. PSNR is that of RGB
and of luma (BT.601), in both cases without 4 pixels at each side. Each is the mean over the pictures of a set and over
seeds, and the spread is the standard deviation between seeds; DISTS, which takes longest, is that of the first seed.
Bicubic rows of other papers show whether the protocol is the same: LPIPS 0.5249 and 25.96 dB of luma for BSD100, 0.4726
and 23.15 for Urban100 (SPSR, arXiv:2003.13081).
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import numpy as np
import report
import torch
from metrics import LUMA, SCALE, Judge, Picture, psnr, read, reduce, tensor
from peers import PEERS, Upscale, installed

from caflow_runtime.pipeline.pipeline import Pipeline, load

SETS = ("Set5", "Set14", "BSD100", "Urban100")
FOLDER = Path("build/test-sets/data")
METRICS = ("psnr", "psnr_y", "lpips", "lr_psnr")
"""Those named PSNR are in dB: of RGB, of luma, and between the result, reduced again, and the condition."""

Pair = tuple[Picture, Picture]
"""Target and condition."""
Method = tuple[str, float | None]
"""Name and temperature."""


def pictures(name: str) -> Iterator[Pair]:
    """Yield target and condition of each picture of a set, grey ones with three equal channels.

    Raises:
        click.ClickException: if the sets were not downloaded.
    """
    paths = sorted((FOLDER / name / "image_SRF_4").glob("*_HR.png"))
    if not paths:
        raise click.ClickException(f"{FOLDER} has no {name}: first run make build/test-sets")
    for path in paths:
        yield np.asarray(read(path)), np.asarray(read(path.with_name(path.name.replace("HR", "LR"))))


def measured(judge: Judge, result: Picture, target: Picture, condition: Picture) -> list[float]:
    """Return the `METRICS` of one result."""
    inner = (slice(SCALE, -SCALE), slice(SCALE, -SCALE))
    return [
        psnr(result[inner], target[inner]),
        psnr(result[inner] @ LUMA, target[inner] @ LUMA),
        *judge.lpips([result], [target]),
        psnr(reduce(result), condition),
    ]


def draws_of(pipe: Pipeline, temperature: float, seeds: int) -> list[Upscale]:
    """Return functions that draw one sample each, with different seeds. At temperature 0 one is enough."""

    def drawn(small: Picture, seed: int) -> Picture:
        return np.asarray(pipe.sample(small, n=1, temperature=temperature, seed=seed).images[0][0])

    return [partial(drawn, seed=seed) for seed in range(seeds if temperature else 1)]


def rows_of(judge: Judge, methods: dict[Method, list[Upscale]], given: Iterable[Pair]) -> list[report.Row]:
    """Return for each method the mean of each metric over pictures and draws, and its spread between draws."""
    values: dict[Method, list[list[list[float]]]] = {method: [] for method in methods}
    distances: dict[Method, list[float]] = {method: [] for method in methods}
    dists = judge.dists_network
    for target, condition in given:
        reference = dists.features(tensor([target]))
        for method, draws in methods.items():
            results = [draw(condition) for draw in draws]
            values[method].append([measured(judge, result, target, condition) for result in results])
            distances[method].append(float(dists.distances(dists.features(tensor(results[:1])), reference)))
    rows = []
    for (name, temperature), of_method in values.items():
        means = np.mean(of_method, axis=0)  # (draws, metrics)
        row: report.Row = {"method": name, "temperature": temperature, "pictures": len(of_method), "draws": len(means)}
        row |= dict(zip(METRICS, means.mean(axis=0).tolist(), strict=True))
        row["dists"] = float(np.mean(distances[name, temperature]))
        if len(means) > 1:
            spread = means.std(axis=0, ddof=1).tolist()
            row |= {f"{metric} ±": value for metric, value in zip(METRICS, spread, strict=True)}
        rows.append(row)
    return rows


@click.command("sets")
@report.BUNDLES
@click.option("--set", "names", type=click.Choice(SETS), multiple=True, default=SETS)
@click.option("--peer", "peer_names", type=click.Choice(list(PEERS)), multiple=True, default=["bicubic"])
@click.option("--temperature", "temperatures", type=float, multiple=True, default=[0.0, 0.8, 0.9])
@click.option("--seeds", default=5, show_default=True, help="Number of samples of each picture and temperature.")
@report.options
def judge_sets(
    bundles: tuple[Path, ...],
    names: tuple[str, ...],
    peer_names: tuple[str, ...],
    temperatures: tuple[float, ...],
    seeds: int,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure each BUNDLE, a ×4 model, on the literature's test sets."""
    torch.set_num_threads(threads)
    judge, rows = Judge(), list[report.Row]()
    with ExitStack() as stack:
        methods: dict[Method, list[Upscale]] = {(name, None): [upscale] for name, upscale in installed(peer_names)}
        for folder in bundles:
            pipe = stack.enter_context(load(folder, "cpu", threads))
            methods |= {(f"caflow {folder.stem}", t): draws_of(pipe, t, seeds) for t in temperatures}
        for name in names:
            rows += [{"set": name} | row for row in rows_of(judge, methods, pictures(name))]
            report.show(rows[-len(methods) :])
            report.write(json_file, rows, threads=threads)
