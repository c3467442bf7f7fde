"""`caflow-export`: a checkpoint to a bundle, and a bundle's graphs to TensorRT engines."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.bundle.wrong_bundle import BundleError
from caflow_runtime.errors import BackendError

if TYPE_CHECKING:
    from caflow_export.trt_flavor import NeedsGpu

ENGINE_PRECISIONS = ["fp32", "fp16", "bf16"]
WRONG_USE, NO_GPU, CANCELLED = 2, 3, 130


def listed(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    """The callback of an option that takes values separated by commas."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def height_and_width(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    """The callback of --max-size: one side of a square, or WIDTHxHEIGHT."""
    width, separator, height = text.partition("x")
    try:
        sides = (int(height if separator else width), int(width))
    except ValueError:
        sides = (0, 0)
    if min(sides) < 1:
        raise click.BadParameter(f"wanted a size such as 1024 or 1920x1088, got {text!r}", context, parameter)
    return sides


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The bundle's folder.  [default: NAME.caflow]")
@click.option(
    "--precision",
    type=click.Choice([*ENGINE_PRECISIONS, "int8"]),
    help="Of the networks; the flow's state stays float32.  [default: fp32]",
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Photographs like those that the model will see: --precision int8 learns the ranges of values from them.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option(
    "--triton",
    metavar="REPO",
    type=click.Path(path_type=Path),
    help="Write a model repository of Triton Inference Server too, with a copy of the bundle.",
)
@click.option(
    "--trt", type=click.Choice(ENGINE_PRECISIONS), help="Build TensorRT engines too, with networks of this precision."
)
@click.option(
    "--trt-flavor",
    type=click.Choice(["tensorrt", "rtx"]),
    help="TensorRT, or TensorRT-RTX.  [default: what is installed]",
)
@click.option(
    "--compute-capability",
    metavar="M.N,…",
    callback=listed,
    help="Of other GPUs than the one here, such as 8.6,12.0; by TensorRT-RTX.",
)
@click.option("--max-rows", type=click.IntRange(1), default=16, show_default=True, help="Rows in one run of an engine.")
@click.option(
    "--max-size",
    metavar="WxH",
    default="1024",
    callback=height_and_width,
    show_default=True,
    help="Of a target with one row, in pixels; more rows share as many pixels.",
)
def main(
    checkpoint: Path,
    output: Path | None,
    precision: str | None,
    data: Path | None,
    force: bool,
    triton: Path | None,
    trt: str | None,
    trt_flavor: str | None,
    compute_capability: tuple[str, ...],
    max_rows: int,
    max_size: tuple[int, int],
) -> None:
    """Export CHECKPOINT as a verified bundle; with --trt, build its engines.

    CHECKPOINT is a file of caflow-train or of the public CAFLOW implementation, or x4-photo, the built-in model. It may
    also be a bundle: with --trt or --triton its graphs are taken as they are, and with -o a bundle of float32 is
    exported again, for example in another precision.

    Exit codes: 0 all is written and verified, 1 the graphs do not compute what the model does, or TensorRT refuses one,
    2 wrong use, 3 the bundle is written, but engines need the GPU that they are for, 130 it was cancelled by Ctrl-C.
    """
    console = Console(stderr=True)
    is_bundle = (checkpoint / MANIFEST).is_file()
    if trt and precision and precision != trt:
        end(f"--precision {precision} and --trt {trt}: engines run the bundle's graphs, so leave out --precision")
    if not trt and (trt_flavor or compute_capability):
        end("--trt-flavor and --compute-capability are about engines: give --trt fp32, fp16 or bf16")
    if (precision == "int8") != (data is not None):
        end("--precision int8 learns the ranges of values from photographs, and nothing else does: give --data with it")
    as_it_is = is_bundle and not output
    if as_it_is and not (trt or triton):
        end(
            f"{checkpoint} is a bundle already: give --trt to build its engines, --triton to serve it, or -o to export "
            "its model again"
        )
    if as_it_is and force and not triton:
        end(f"{checkpoint} is a bundle, engines are built in it: leave out --force")
    if as_it_is and precision:
        end(f"{checkpoint} is a bundle, its graphs are what they are: leave out --precision, or give -o")
    if as_it_is and trt:
        _check_precision(checkpoint, trt)
    cannot_build = _why_not(trt_flavor, compute_capability) if trt else None
    bundle = checkpoint if as_it_is else _export(checkpoint, output, trt or precision or "fp32", data, force, console)
    if trt and not cannot_build:
        _build(bundle, trt_flavor, compute_capability, max_rows, max_size, console)
    if triton:
        _serve(bundle, triton, force)
    if cannot_build:
        end(f"{cannot_build}: caflow-export {bundle} --trt {trt}{cannot_build.options}", code=NO_GPU)


def _check_precision(bundle: Path, precision: str) -> None:
    try:
        found = read_manifest(bundle).precision
    except BundleError as error:
        end(str(error))
    if found == "int8":
        end(f"{bundle} is of int8, whose zero points TensorRT does not take: export its model again, with --trt fp16")
    if found != precision:
        end(
            f"{bundle} is of {found}, its graphs cannot become {precision}: give --trt {found}, or export its "
            f"model again: caflow-export {bundle if found == 'fp32' else 'CHECKPOINT'} -o NEW --trt {precision}"
        )


def _why_not(flavor: Any, compute_capabilities: tuple[str, ...]) -> "NeedsGpu | None":
    """Why engines cannot be built on this machine, though elsewhere; asked before the export, which takes minutes."""
    from caflow_export.trt_flavor import NeedsGpu, TensorRTUnavailable, choose

    try:
        choose(flavor, compute_capabilities, first_gpu())
    except NeedsGpu as error:
        return error
    except TensorRTUnavailable as error:
        end(str(error))
    return None


def _export(
    checkpoint: Path, output: Path | None, precision: str, data: Path | None, force: bool, console: Console
) -> Path:
    try:
        from caflow_export.export import ExportError, export
        from caflow_export.measure import VerificationFailed
        from caflow_training.checkpoint import CheckpointError
        from caflow_training.config import ConfigError
    except ModuleNotFoundError as error:
        print(f"caflow-export needs {error.name}: pip install 'caflow-deploy[export]'", file=sys.stderr)
        sys.exit(WRONG_USE)
    try:
        with _progress(console, "tracing") as show:
            report = export(
                checkpoint,
                output,
                precision,  # type: ignore[arg-type]
                force,
                processes=min(2, os.cpu_count() or 1),
                say=lambda line: console.print(line, highlight=False, soft_wrap=True),
                show=show,
                photographs=data,
            )
    except (CheckpointError, ConfigError, ExportError) as error:
        end(str(error))
    except VerificationFailed as error:
        end(f"no bundle was written: {error}", code=1)
    except KeyboardInterrupt:
        end("cancelled: no bundle is written", code=CANCELLED)
    listed_nodes = ", ".join(f"{count} {name}" for name, count in report.on_cpu.most_common()) or "none"
    console.print(f"nodes that ONNX Runtime's CUDA provider leaves to the CPU: {listed_nodes}", highlight=False)
    click.echo(f"{report.path}  {report.bytes / 2**20:.1f} MiB, {report.share_of_parameters:.2f} × the parameters")
    return report.path


def _build(
    bundle: Path,
    flavor: Any,
    compute_capabilities: tuple[str, ...],
    max_rows: int,
    max_size: tuple[int, int],
    console: Console,
) -> None:
    try:
        from caflow_export.measure import VerificationFailed
        from caflow_export.to_tensorrt import BuildFailed, build_engines
    except ModuleNotFoundError as error:
        end(f"engines need {error.name}: pip install 'caflow-deploy[trt]' or 'caflow-deploy[trt-rtx]'")
    try:
        with _progress(console, "building") as show:
            folders = build_engines(
                bundle,
                flavor,
                compute_capabilities,
                max_rows,
                max_size,
                show,
                say=lambda line: console.print(line, highlight=False, soft_wrap=True),
            )
    except (BundleError, OSError) as error:
        end(str(error))
    except VerificationFailed as error:
        end(f"no engines are written, another precision may do: {error}", code=1)
    except MemoryError as error:
        end(f"no engines are written, smaller --max-rows and --max-size may do: {error}", code=1)
    except (BuildFailed, BackendError) as error:
        end(f"no engines are written: {error}", code=1)
    except KeyboardInterrupt:
        end("cancelled: unfinished engines are not written", code=CANCELLED)
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.iterdir())
        click.echo(f"{folder}  {size / 2**20:.1f} MiB")


def _serve(bundle: Path, repository: Path, force: bool) -> None:
    from caflow_export.triton import write_repository
    from caflow_runtime.errors import InputError

    try:
        read_manifest(bundle)
        for folder in write_repository(bundle, repository, force):
            click.echo(folder)
    except (InputError, BundleError, OSError) as error:
        end(f"no model repository is written: {error}")


@contextmanager
def _progress(console: Console, what: str) -> Iterator[Callable[[str, int, int], None]]:
    text = TextColumn(f"{what} {{task.description:14}}", markup=False)  # names of phases may hold brackets
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda one, done, count: progress.update(task, description=one, completed=done, total=count)


def end(message: str, code: int = WRONG_USE) -> NoReturn:
    """One line, and out."""
    print(f"caflow-export: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
