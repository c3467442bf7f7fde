"""`caflow image`: files and folders of images in, the best of N samples out."""

import json
import math
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from caflow_deploy.commands.jobs import Job, plan_jobs
from caflow_deploy.commands.options import (
    bundle_option,
    check_untypical,
    drawing_options,
    json_option,
    metrics_option,
    numbers,
    open_metrics,
    open_pipeline,
    rejecting_options,
    running_options,
    samples_option,
)
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors, progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caflow_runtime.choice import Reject
    from caflow_runtime.images import ImageFile
    from caflow_runtime.metrics import Metrics
    from caflow_runtime.pipeline import Pipeline
    from caflow_runtime.results import Best, Likelihood, Samples
    from caflow_runtime.runner import Show

KEEPS_COLOURS = ("super-resolution", "inpainting")
"""Tasks whose result of a grey image is grey."""
LOSSLESS = {".bmp", ".png", ".tif", ".tiff"}


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder; or a file, for one image."
)
@bundle_option
@samples_option("Of which the best is kept.")
@drawing_options
@click.option(
    "--keep",
    metavar="N,N,…",
    callback=numbers,
    help="Progressive: samples that run at each level, from -n down. Faster; what is dropped might have won.",
)
@click.option("--consistent", is_flag=True, help="Super-resolution: change results to down-sample to the input.")
@click.option("--keep-all", is_flag=True, help="Write the other samples too, as NAME-2.png …, in order of rank.")
@click.option("--sheet", is_flag=True, help="Write NAME-sheet.png: input, samples with their likelihoods, uncertainty.")
@click.option("--maps", is_flag=True, help="Write NAME-likelihood.png, one for each level, and NAME-uncertainty.png.")
@rejecting_options
@click.option(
    "--redraws",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Samples, at most, that are drawn in place of untypical ones.",
)
@running_options
@metrics_option
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
    maps: bool,
    min_typicality: float | None,
    untypical: str | None,
    redraws: int,
    backend: str,
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
    metrics_port: int | None,
    as_json: bool,
    force: bool,
) -> None:
    """Make images from IN: files, folders or globs. Of each, the best of several samples is written as PNG to OUT.

    A file that cannot be done is reported and the others are done; the exit code is then 1.
    """
    check_untypical(untypical, min_typicality)
    if keep and (keep_all or sheet or maps):
        end("--keep drops samples that --keep-all, --sheet and --maps would show: give one or the other")
    if min_typicality and keep:
        end("--keep drops samples unseen, so --min-typicality cannot reject them: give one or the other")
    if min_typicality and (keep_all or sheet):
        end("--min-typicality rejects samples that --keep-all and --sheet would show: give one or the other")
    arguments: dict[str, Any] = {
        "n": samples,
        "temperature": temperature,
        "seed": seed,
        "rank": rank,
        "consistent": consistent,
    }
    pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap)
    with ending_on_errors():
        from caflow_runtime.calibration import check_alpha
        from caflow_runtime.inputs import check_draw
        from caflow_runtime.maps import names

        check_draw(pipe.manifest.model, frame=0, keep=keep, **arguments)
        if rank == "typical" or min_typicality:
            reference = pipe.calibration.reference(temperature)
            if min_typicality:
                check_alpha(min_typicality, reference)
        extras = ["sheet"] * sheet + (
            names(pipe.manifest.model.levels, 0 if min_typicality else samples) if maps else []
        )
        jobs = plan_jobs(inputs, output, samples - 1 if keep_all else 0, extras, force)
    if keep:
        arguments["keep"] = keep
    if min_typicality:
        arguments["reject"] = _reject(min_typicality, redraws, untypical)
    with ExitStack() as stack:
        metrics = open_metrics(stack, metrics_port, pipe, temperature, measures_drift=not keep)
        _run(pipe, jobs, arguments, as_json, metrics)


def _reject(alpha: float, redraws: int, untypical: str | None) -> "Reject":
    from caflow_runtime.choice import Otherwise, Reject

    otherwise: dict[str, Otherwise] = {"drop": "error", "bicubic": "bicubic"}
    return Reject(alpha, redraws, otherwise.get(untypical or "", "best"))


def _run(
    pipe: "Pipeline", jobs: list[Job], arguments: dict[str, Any], as_json: bool, metrics: "Metrics | None"
) -> None:
    """Do all jobs and report each, and at the end what failed and what was untypical."""
    from caflow_runtime.choice import Untypical
    from caflow_runtime.errors import CaflowError

    failures = dropped = untypical = 0
    with progress_bar() as progress:
        files = progress.add_task("images", total=len(jobs))
        windows = progress.add_task("this image", visible=False)

        def show(done: int, count: int) -> None:
            progress.update(windows, completed=done, total=count, visible=True)

        for job in jobs:
            try:
                report = _do(pipe, job, arguments, show, metrics)
            except Untypical as error:
                dropped += 1
                job.output.unlink(missing_ok=True)  # an earlier one, with --force
                if metrics:
                    metrics.observe_error(error)
                click.echo(f"caflow: {job.source}: {error}: dropped", err=True)
            except (CaflowError, OSError, MemoryError) as error:
                failures += 1
                if metrics:
                    metrics.observe_error(error)
                text = str(error) or type(error).__name__
                text = text if text.startswith(str(job.source)) else f"{job.source}: {text}"
                click.echo(f"caflow: {text}", err=True)
            else:
                untypical += report["outcome"] != "accepted"
                click.echo(json.dumps(report, allow_nan=False) if as_json else _line(report, arguments["n"]))
            progress.advance(files)
    if "reject" in arguments:
        what = "dropped" if dropped else "bicubic" if arguments["reject"].otherwise == "bicubic" else "marked"
        click.echo(f"caflow: {dropped or untypical} of {len(jobs)} images are untypical, {what}", err=True)
    if failures:
        end(f"{failures} of {len(jobs)} images failed", FAILED)


def _do(
    pipe: "Pipeline", job: Job, arguments: dict[str, Any], show: "Show", metrics: "Metrics | None"
) -> dict[str, Any]:
    """Draw, write and report one image."""
    from caflow_runtime.images import check_suffix, enlarge_alpha, read_image, write_image
    from caflow_runtime.maps import pictures as maps_of
    from caflow_runtime.sheet import sheet

    given = read_image(job.source)
    check_suffix(job.output, given.alpha is not None)
    needs_all = bool(job.others or job.extras) and "reject" not in arguments
    with metrics.stage("sample") if metrics else nullcontext():
        drawn: Samples | Best = (pipe.sample if needs_all else pipe.best_of)(given.rgb, **arguments, show=show)
    pictures = drawn.images[0] if needs_all else drawn.images[0][None]
    alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *pictures.shape[1:3])
    is_grey = given.is_grey and pipe.manifest.model.task in KEEPS_COLOURS
    for path, picture in zip([job.output, *job.others], pictures, strict=False):
        write_image(path, picture, alpha, is_grey)
    if "sheet" in job.extras:
        write_image(job.extras["sheet"], sheet(given.rgb, cast("Samples", drawn)))
    report = _report(job, drawn, given)
    if "likelihood" in job.extras and report["outcome"] != "bicubic":
        for name, picture, darkest, brightest in maps_of(drawn):
            write_image(job.extras[name], picture)
            report.setdefault("maps", {})[name] = [darkest, brightest]
    if report["outcome"] != "bicubic" and (is_grey or job.output.suffix.lower() not in LOSSLESS):
        report |= _as_written(pipe, read_image(job.output).rgb, given.rgb, "consistency_db" in report)
    if metrics and needs_all:
        metrics.observe_samples(cast("Samples", drawn))
    elif metrics:
        redraws = arguments["reject"].redraws if "reject" in arguments else 0
        metrics.observe_best(cast("Best", drawn), arguments.get("keep", [arguments["n"]])[-1], redraws)
    return report


def _report(job: Job, drawn: "Samples | Best", given: "ImageFile") -> dict[str, Any]:
    """Of the best sample."""
    best = (0, 0) if drawn.per_level.ndim == 3 else (0,)
    known = {} if drawn.consistency is None else {"consistency_db": float(drawn.consistency[best])}
    return {
        "input": str(job.source),
        "output": str(job.output),
        "input_bits": given.bits,
        "sample": int(drawn.sample[best]),
        "outcome": getattr(drawn, "outcome", ["accepted"])[0],
        **_likelihood(drawn, best),
        **known,
    }


def _likelihood(drawn: "Likelihood", best: tuple[int, ...]) -> dict[str, Any]:
    """None where there is none: of an enlarged input."""
    has_one = math.isfinite(drawn.log_likelihood[best])
    typical = drawn.typicality
    return {
        "density_at": drawn.density_at,
        "log_likelihood": float(drawn.log_likelihood[best]) if has_one else None,
        "log_likelihood_per_level": drawn.per_level[best].tolist() if has_one else None,
        "bits_per_dim": float(drawn.bits_per_dim[best]) if has_one else None,
        "typicality": float(typical.value[best]) if typical and has_one else None,
    }


def _as_written(
    pipe: "Pipeline", written: "NDArray[Any]", given: "NDArray[Any]", with_consistency: bool
) -> dict[str, Any]:
    """What holds of the file where it is not what was drawn: grey, or of a format that loses something."""
    from caflow_runtime.consistency import consistency

    scored = pipe.score(written, given)
    known = {"consistency_db": consistency(pipe.manifest.model, written, given)} if with_consistency else {}
    return _likelihood(scored, (0,)) | known


def _line(report: dict[str, Any], n: int) -> str:
    """For people."""
    if report["outcome"] == "bicubic":
        return f"{report['input']} → {report['output']}  untypical: the input, enlarged"
    parts = [f"{report['bits_per_dim']:.3f} bits/dim", f"sample {report['sample']} of {n}"]
    if report["typicality"] is not None:
        parts.append(f"typicality {report['typicality']:.3f}{' (untypical)' if report['outcome'] == 'best' else ''}")
    if "consistency_db" in report:
        parts.append(f"{report['consistency_db']:.1f} dB to the input")
    if report["input_bits"] == 16:
        parts.append("16 bits became 8")
    return f"{report['input']} → {report['output']}  {', '.join(parts)}"
