"""`caflow image`: files and folders of images in, the best of N samples out."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from caflow_deploy.commands.common import (
    FAILED,
    bundle_option,
    end,
    ending_on_errors,
    json_option,
    numbers,
    open_pipeline,
    progress_bar,
    running_options,
)

if TYPE_CHECKING:
    from caflow_runtime.pipeline import Pipeline
    from caflow_runtime.results import Best, Samples
    from caflow_runtime.runner import Show

KEEPS_COLOURS = ("super-resolution", "inpainting")
"""Tasks whose result of a grey image is grey."""


@dataclass(frozen=True)
class Job:
    """One file to be done."""

    source: Path
    output: Path


@dataclass(frozen=True)
class Draw:
    """How samples are drawn and what is written of them."""

    arguments: dict[str, Any]
    """Of `Pipeline.best_of` and `Pipeline.sample`."""
    keeps_all: bool
    has_sheet: bool


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder; or a file, for one image."
)
@bundle_option
@click.option(
    "-n", "--samples", type=click.IntRange(1), default=10, show_default=True, help="Of which the best is kept."
)
@click.option("--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="Spread of the samples.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--rank",
    type=click.Choice(["likelihood", "consistency"]),
    default="likelihood",
    show_default=True,
    help="The best is the most likely, or the one that, degraded again, is closest to the input.",
)
@click.option(
    "--keep",
    metavar="N,N,…",
    callback=numbers,
    help="Progressive: samples that run at each level, from -n down. Faster; what is dropped might have won.",
)
@click.option(
    "--consistent", is_flag=True, help="Super-resolution: change results to down-sample to the input exactly."
)
@click.option("--keep-all", is_flag=True, help="Write the other samples too, as NAME-2.png …, in order of rank.")
@click.option("--sheet", is_flag=True, help="Write NAME-sheet.png: input, samples with their likelihoods, uncertainty.")
@click.option(
    "--pixel-budget", type=click.IntRange(1), help="Pixels in one run: bounds memory; larger images are tiled."
)
@click.option("--overlap", type=click.IntRange(0), help="Of tiles, in pixels of the result.")
@running_options
@json_option
@click.option("--force", is_flag=True, help="Overwrite files that are there already.")
def image(
    inputs: tuple[str, ...],
    output: Path,
    bundle: Path,
    samples: int,
    temperature: float,
    seed: int,
    rank: str,
    keep: list[int] | None,
    consistent: bool,
    keep_all: bool,
    sheet: bool,
    pixel_budget: int | None,
    overlap: int | None,
    backend: str,
    threads: int,
    as_json: bool,
    force: bool,
) -> None:
    """Make images from IN: files, folders or globs. Of each, the best of several samples is written as PNG to OUT.

    A file that cannot be done is reported and the others are done; the exit code is then 1.
    """
    settings = {"pixel_budget": pixel_budget, "overlap": overlap}
    pipe = open_pipeline(bundle, backend, threads, **{k: v for k, v in settings.items() if v is not None})
    with ending_on_errors():
        jobs = plan_jobs(inputs, output)
    if keep and (keep_all or sheet):
        end("--keep drops samples that --keep-all and --sheet would write: give one or the other")
    arguments = {"n": samples, "temperature": temperature, "seed": seed, "rank": rank, "consistent": consistent}
    draw = Draw(arguments | ({"keep": keep} if keep else {}), keep_all, sheet)
    if not force:
        there = next((path for job in jobs for path in _outputs(job, draw) if path.exists()), None)
        if there:
            end(f"{there} is there already: give --force to overwrite it, or another -o")
    failures = 0
    with progress_bar() as progress:
        files = progress.add_task("images", total=len(jobs))
        windows = progress.add_task("this image", visible=False)
        for job in jobs:
            error = _try(
                pipe,
                job,
                draw,
                as_json,
                lambda done, n: progress.update(windows, completed=done, total=n, visible=True),
            )
            if error:
                failures += 1
                progress.console.print(f"caflow: {error}", markup=False, highlight=False, soft_wrap=True)
            progress.advance(files)
    if failures:
        end(f"{failures} of {len(jobs)} images failed", FAILED)


def plan_jobs(inputs: Iterable[str], output: Path) -> list[Job]:
    """What is read and where it goes.

    Raises:
        InputError: if something is not there, or two files would be written to the same place.
    """
    from caflow_runtime.images import SUFFIXES
    from caflow_runtime.inputs import InputError

    sources: list[tuple[Path, Path]] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            sources += [(file, file.relative_to(path)) for file in found]
        elif path.exists():
            found = [path]
            sources.append((path, Path(path.name)))
        else:
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
            sources += [(file, Path(file.name)) for file in found]
        if not found:
            raise InputError(f"{text}: wanted an image, a folder with images or a glob that matches some, found none")
    if len(sources) == 1 and output.suffix.lower() in SUFFIXES and not output.is_dir():
        return [Job(sources[0][0], output)]
    jobs = [Job(source, (output / name).with_suffix(".png")) for source, name in sources]
    places: dict[Path, Path] = {}
    for job in jobs:
        if places.setdefault(job.output, job.source) != job.source:
            other = places[job.output]
            raise InputError(f"{other} and {job.source} would both be written to {job.output}: do them one by one")
    return jobs


def _outputs(job: Job, draw: Draw) -> list[Path]:
    """The best, the others, and the sheet."""
    others = range(2, draw.arguments["n"] + 1) if draw.keeps_all else ()
    names = [*(f"-{k}" for k in others), *(["-sheet"] if draw.has_sheet else [])]
    return [job.output, *(job.output.with_stem(job.output.stem + name) for name in names)]


def _try(pipe: "Pipeline", job: Job, draw: Draw, as_json: bool, show: "Show") -> str | None:
    """Do one file and report it; what is wrong, if anything is."""
    from caflow_runtime.consistency import NotConsistent
    from caflow_runtime.images import UnreadableImage
    from caflow_runtime.inputs import InputError
    from caflow_runtime.pipeline import NotFinite

    try:
        report = _do(pipe, job, draw, show)
    except UnreadableImage as error:
        return str(error)
    except (InputError, NotConsistent, NotFinite, OSError, ValueError) as error:
        return f"{job.source}: {error}"
    if as_json:
        click.echo(json.dumps(report))
    else:
        n, bits = draw.arguments["n"], report["bits_per_dim"]
        note = ", 16 bits became 8" if report["input_bits"] == 16 else ""
        click.echo(f"{job.source} → {job.output}  {bits:.3f} bits/dim, sample {report['sample']} of {n}{note}")
    return None


def _do(pipe: "Pipeline", job: Job, draw: Draw, show: "Show") -> dict[str, Any]:
    from caflow_runtime.images import enlarge_alpha, read_image, write_image
    from caflow_runtime.sheet import sheet

    given = read_image(job.source)
    needs_all = draw.keeps_all or draw.has_sheet
    draw_it = pipe.sample if needs_all else pipe.best_of
    drawn: Samples | Best = draw_it(given.rgb, **draw.arguments, show=show)
    pictures = drawn.images[0] if needs_all else drawn.images[0][None]
    alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *pictures.shape[1:3])
    is_grey = given.is_grey and pipe.manifest.model.task in KEEPS_COLOURS
    paths = _outputs(job, draw)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    for path, picture in zip(paths, pictures[: len(pictures) if draw.keeps_all else 1], strict=False):
        write_image(path, picture, alpha, is_grey)
    if draw.has_sheet:
        write_image(paths[-1], sheet(given.rgb, cast("Samples", drawn)))
    return _report(job, drawn, given.bits)


def _report(job: Job, drawn: "Samples | Best", bits: int) -> dict[str, Any]:
    """Of the best sample."""
    best = (0, 0) if drawn.per_level.ndim == 3 else (0,)
    consistency = {} if drawn.consistency is None else {"consistency_db": float(drawn.consistency[best])}
    return {
        "input": str(job.source),
        "output": str(job.output),
        "input_bits": bits,
        "sample": int(drawn.sample[best]),
        "density_at": drawn.density_at,
        "log_likelihood": float(drawn.log_likelihood[best]),
        "log_likelihood_per_level": drawn.per_level[best].tolist(),
        "bits_per_dim": float(drawn.bits_per_dim[best]),
        **consistency,
    }
