"""The literature's test sets for ×4: Set5, Set14, BSD100 and Urban100, measured as the published figures were.

The pictures and their reductions by MATLAB's bicubic filter are those of github.com/jbhuang0604/SelfExSR, which
`make build/test-sets` downloads. LPIPS (AlexNet), DISTS and LR-PSNR are of whole pictures in uint8. PSNR is that of RGB
and of luma (BT.601), in both cases without 4 pixels at each side. Each is the mean over the pictures of a set; the
spread is the standard deviation of this mean over seeds. Bicubic rows of other papers show whether the protocol is the
same: LPIPS 0.5249 and 25.96 dB of luma for BSD100, 0.4726 and 23.15 for Urban100 (SPSR, arXiv:2003.13081).
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import numpy as np
import report
import torch
from dists import Dists
from metrics import LUMA, SCALE, Judge, Picture, folder_of, psnr, read, reduce, tensor
from peers import PEERS, Upscale, installed

from caflow_runtime.pipeline.pipeline import Pipeline, load

SETS = ("Set5", "Set14", "BSD100", "Urban100")
FOLDER = Path("build/test-sets/data")
METRICS = ("psnr", "psnr_y", "lpips", "dists", "lr_psnr")
"""Those named PSNR are in dB: of RGB, of luma, and between the result, reduced again, and the condition."""

Pair = tuple[Picture, Picture]
"""Target and condition."""


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


def measured(judge: Judge, dists: Dists, result: Picture, target: Picture, condition: Picture) -> list[float]:
    """Return all metrics of one result."""
    inner = (slice(SCALE, -SCALE), slice(SCALE, -SCALE))
    return [
        psnr(result[inner], target[inner]),
        psnr(result[inner] @ LUMA, target[inner] @ LUMA),
        *judge.lpips([result], [target]),
        float(dists(tensor([result]), tensor([target]))),
        psnr(reduce(result), condition),
    ]


def draws_of(pipe: Pipeline, temperature: float, seeds: int) -> list[Upscale]:
    """Return functions that draw one sample each, with different seeds. At temperature 0 one is enough."""

    def drawn(small: Picture, seed: int) -> Picture:
        return np.asarray(pipe.sample(small, n=1, temperature=temperature, seed=seed).images[0][0])

    return [partial(drawn, seed=seed) for seed in range(seeds if temperature else 1)]


def row_of(judge: Judge, dists: Dists, draws: list[Upscale], given: list[Pair]) -> report.Row:
    """Return the mean of each metric over the pictures of a set and over draws, and its spread between draws."""
    means = [np.mean([measured(judge, dists, draw(pair[1]), *pair) for pair in given], axis=0) for draw in draws]
    row: report.Row = {"draws": len(draws), **dict(zip(METRICS, np.mean(means, axis=0).tolist(), strict=True))}
    if len(draws) > 1:
        row |= {f"{name} ±": float(value) for name, value in zip(METRICS, np.std(means, axis=0, ddof=1), strict=True)}
    return row


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
    judge, dists, rows = Judge(), Dists.load(folder_of("metrics")), list[report.Row]()
    with ExitStack() as stack:
        methods: dict[tuple[str, float | None], list[Upscale]] = {
            (name, None): [upscale] for name, upscale in installed(peer_names)
        }
        for folder in bundles:
            pipe = stack.enter_context(load(folder, "cpu", threads))
            methods |= {(f"caflow {folder.stem}", t): draws_of(pipe, t, seeds) for t in temperatures}
        for name in names:
            given = list(pictures(name))
            for (method, temperature), draws in methods.items():
                of = {"set": name, "method": method, "temperature": temperature}
                rows.append(of | row_of(judge, dists, draws, given))
                report.show(rows[-1:])
                report.write(json_file, rows, threads=threads)
