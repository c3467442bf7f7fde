"""The command `caflow-export`, which exports a checkpoint as a bundle and builds TensorRT engines for a bundle."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from caflow_cli.console import CommandConsole
from caflow_cli.field_options import field_option, field_options, gathered
from caflow_cli.program import Program
from caflow_cli.standard_streams import print_message
from caflow_cli.stops import ending_when_stopped, exit_code
from caflow_export.export_options import INSTALL_EITHER, EngineOptions, ExportOptions
from caflow_runtime.backends.gpu import gpu, has_gpu
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import BackendError, InputError
from caflow_runtime.extras import HOW_TO_INSTALL

if TYPE_CHECKING:
    from caflow_export.engine_targets import NeedsGpu

ENGINE_PRECISIONS = ["fp32", "fp16", "bf16"]
WRONG_USE, NO_GPU = 2, 3


def listed(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    """Split the value of an option at its commas. Click calls this function."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def height_and_width(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Return the value of --max-size as (height, width). The text is WIDTHxHEIGHT, or one number for a square."""
    if text is None:
        return None
    width, separator, height = text.partition("x")
    try:
        sides = (int(height if separator else width), int(width))
    except ValueError:
        sides = (0, 0)
    if min(sides) < 1:
        raise click.BadParameter(f"expected a size such as 1024 or 1920x1088; got {text!r}", context, parameter)
    return sides


@click.command(
    "caflow-export", cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, epilog=HOW_TO_INSTALL
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the bundle.  [default: the path of CHECKPOINT, ending in .caflow]",
)
@field_option(ExportOptions, "precision", default=None)
@field_option(ExportOptions, "data", metavar="FOLDER")
@field_options(ExportOptions, "temperature", "rank")
@field_option(ExportOptions, "force")
@click.option(
    "--trt",
    type=click.Choice(ENGINE_PRECISIONS),
    help="Also build TensorRT engines, with networks in this precision. Requires the extra rtx or trt.",
)
@field_option(EngineOptions, "trt_flavor")
@field_option(EngineOptions, "compute_capability", default=None, metavar="M.N,…", callback=listed)
@field_option(EngineOptions, "max_batch_size")
@field_option(EngineOptions, "max_size", metavar="WxH", callback=height_and_width)
@click.version_option(package_name="caflow-deploy", prog_name="caflow-export")
@ending_when_stopped("caflow-export")
def main(checkpoint: Path, output: Path | None, trt: str | None, **given: Any) -> None:
    """Export CHECKPOINT as a verified bundle. With --trt, also build TensorRT engines for the bundle.

    Exporting requires the extra export. CHECKPOINT is a file written by caflow-train or by the public CAFLOW
    implementation, a bundle, or the name of a built-in model: x4-photo, x4-real, x2-video, inpaint-photo or
    colour-hints. If CHECKPOINT is a bundle and -o is not given, --trt uses its graphs unchanged. With -o, a float32
    bundle is exported again, for example in another precision.

    Exit codes: 0 everything was written and verified; 1 the verification failed, or an engine could not be built; 2
    wrong use; 3 the bundle is complete, but its engines were not built because this machine has no GPU; 130 stopped
    by Ctrl-C; 143 stopped by SIGTERM.
    """
    console, engines = CommandConsole(), gathered(EngineOptions, given)
    as_it_is = (checkpoint / MANIFEST).is_file() and not output
    if trt and given["precision"] not in (None, trt):
        end(
            f"--precision {given['precision']} contradicts --trt {trt}: a bundle and its engines have the same "
            "precision; omit --precision"
        )
    if not trt and engines.given:
        end(f"{' and '.join(engines.given)}: no effect without --trt; also give --trt fp32, fp16 or bf16")
    try:
        options = gathered(ExportOptions, given | {"precision": trt or given["precision"] or "fp32"})
    except InputError as error:
        end(str(error))
    if as_it_is:
        _check_as_it_is(checkpoint, given, trt)
    cannot_build = _why_not(engines) if trt else None
    bundle = checkpoint if as_it_is else _export(checkpoint, output, options, console)
    if trt and not cannot_build:
        _build(bundle, engines, console)
    if cannot_build:
        again = f"caflow-export {bundle} --trt {trt}{cannot_build.options}{engines.sizes_given}"
        end(f"{cannot_build}: {again}", code=NO_GPU)


def _check_as_it_is(bundle: Path, given: Mapping[str, Any], trt: str | None) -> None:
    """End the command if options do not fit a bundle whose graphs stay unchanged."""
    if not trt:
        end(f"{bundle} is already a bundle: give --trt to build its engines, or -o to export its model again")
    if given["rank"] or given["temperature"] is not None:
        end(f"{bundle} is already a bundle, whose --temperature and --rank cannot be changed: give -o")
    if given["force"]:
        end(f"{bundle} is already a bundle, which --trt does not replace: omit --force")
    if given["precision"]:
        end(
            f"{bundle} is already a bundle, whose precision cannot be changed: omit --precision, or give -o to export "
            "its model again"
        )
    if trt:
        _check_precision(bundle, trt)


def _check_precision(bundle: Path, precision: str) -> None:
    try:
        found = read_manifest(bundle).precision
    except BundleError as error:
        end(str(error))
    if found == "int8":
        end(
            f"{bundle} has networks in int8, and TensorRT does not support their zero points: export the model again: "
            "caflow-export CHECKPOINT -o NEW --trt fp16"
        )
    if found != precision:
        end(
            f"{bundle} has networks in {found}, which cannot be changed to {precision}: give --trt {found}, or export "
            f"the model again: caflow-export {bundle if found == 'fp32' else 'CHECKPOINT'} -o NEW --trt {precision}"
        )


def _why_not(engines: EngineOptions) -> "NeedsGpu | None":
    """Return the error if engines cannot be built because this machine has no GPU, or None if they can be built.

    End the command if TensorRT is missing or does not support the GPUs. The check runs before the export, which takes
    minutes.
    """
    try:
        from caflow_export.engine_targets import NeedsGpu, TensorRTUnavailable, choose
    except ModuleNotFoundError as error:
        end(f"--trt requires {error.name}: {INSTALL_EITHER}")
    try:
        choose(engines.trt_flavor, engines.compute_capability, gpu() if has_gpu() else None)
    except NeedsGpu as error:
        return error
    except TensorRTUnavailable as error:
        end(str(error))
    return None


def _export(checkpoint: Path, output: Path | None, options: ExportOptions, console: CommandConsole) -> Path:
    """Export a checkpoint. Return the path of the bundle."""
    try:
        from caflow_export.export import ExportError, export
        from caflow_export.measure import VerificationFailed
        from caflow_training.checkpoint import CheckpointError
        from caflow_training.config import ConfigError
    except ModuleNotFoundError as error:
        print_message(f"caflow-export requires {error.name}: pip install 'caflow-deploy[export]'")
        sys.exit(WRONG_USE)
    try:
        with _progress(console, "tracing") as show:
            report = export(
                checkpoint, output, options, processes=min(2, os.cpu_count() or 1), say=console.message, show=show
            )
    except (CheckpointError, ConfigError, ExportError, OSError) as error:
        end(str(error))
    except BackendError as error:
        end(f"no bundle was written: {error}", code=1)
    except VerificationFailed as error:
        end(f"no bundle was written: {error}", code=1)
    except KeyboardInterrupt as stop:
        end("cancelled: no bundle was written", code=exit_code(stop))
    console.result(
        f"{report.path}  {report.bytes / 2**20:.1f} MiB, {report.share_of_parameters:.2f} × the size of the "
        f"parameters, verified by {len(report.manifest.verification)} checks (caflow info -v lists them)"
    )
    return report.path


def _build(bundle: Path, engines: EngineOptions, console: CommandConsole) -> None:
    from caflow_export.measure import VerificationFailed
    from caflow_export.tensorrt_builder import BuildFailed
    from caflow_export.to_tensorrt import build_engines

    try:
        with _progress(console, "building") as show:
            folders = build_engines(
                bundle, engines.trt_flavor, engines.compute_capability, engines.profile, show, say=console.message
            )
    except (BundleError, OSError) as error:
        end(str(error))
    except VerificationFailed as error:
        end(f"no engines were written: {error}; try another precision", code=1)
    except MemoryError as error:
        end(f"no engines were written: memory ran out: {error}; try smaller --max-batch-size and --max-size", code=1)
    except (BuildFailed, BackendError) as error:
        end(f"no engines were written: {error}", code=1)
    except KeyboardInterrupt as stop:
        end("cancelled: unfinished engines were not written", code=exit_code(stop))
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.iterdir())
        console.result(f"{folder}  {size / 2**20:.1f} MiB")


@contextmanager
def _progress(console: CommandConsole, what: str) -> Iterator[Callable[[str, int, int], None]]:
    text = TextColumn(f"{what} {{task.description:14}}", markup=False)  # names of phases may contain brackets
    with console.progress_bar(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("")
        yield lambda one, done, count: bar.update(task, description=one, completed=done, total=count)


def end(message: str, code: int = WRONG_USE) -> NoReturn:
    """Print an error message and exit."""
    print_message(f"caflow-export: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
