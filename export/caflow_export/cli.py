"""The command `caflow-export`, which exports a checkpoint as a bundle and builds TensorRT engines for a bundle."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from caflow_cli.console import CommandConsole
from caflow_cli.program import Program
from caflow_cli.standard_streams import print_message
from caflow_cli.stops import ending_when_stopped, exit_code
from caflow_runtime.backends.gpu import gpu, has_gpu
from caflow_runtime.batching.draw_options import Rank
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.engine_sets import DEFAULT_PROFILE, Profile
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import DEFAULT_SAMPLING
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import BackendError
from caflow_runtime.extras import HOW_TO_INSTALL

if TYPE_CHECKING:
    from caflow_export.engine_targets import NeedsGpu

ENGINE_PRECISIONS = ["fp32", "fp16", "bf16"]
WRONG_USE, NO_GPU = 2, 3
INSTALL_BUILDER = "pip install 'caflow-deploy[rtx-build]' or 'caflow-deploy[trt]'"


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
@click.option(
    "--precision",
    type=click.Choice([*ENGINE_PRECISIONS, "int8"]),
    help="Precision of the networks inside the flow's layers; all other numbers stay float32. int8 requires --data.  "
    "[default: that of --trt, or fp32]",
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="With --precision int8: folder of photographs similar to the images that the model will process. The ranges "
    "of the 8-bit numbers are learned from them.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    help="Temperature that the model is best used with, for callers that set none.  [default: that of the bundle that "
    f"is exported again, or {DEFAULT_SAMPLING.temperature:g}]",
)
@click.option(
    "--rank",
    type=click.Choice(get_args(Rank)),
    help="Criterion by which the model's best sample is chosen, for callers that set none.  [default: that of the "
    f"bundle that is exported again, or {DEFAULT_SAMPLING.rank}]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace an existing bundle, and with --triton also existing models with the same names.",
)
@click.option(
    "--triton",
    metavar="REPO",
    type=click.Path(path_type=Path),
    help="Also write a model repository of Triton Inference Server, with a copy of the bundle, to this folder.",
)
@click.option(
    "--trt",
    type=click.Choice(ENGINE_PRECISIONS),
    help="Also build TensorRT engines, with networks in this precision. Requires the extra rtx-build or trt.",
)
@click.option(
    "--trt-flavor",
    type=click.Choice(["tensorrt", "rtx"]),
    help="With --trt: library that builds the engines. tensorrt: TensorRT. rtx: TensorRT-RTX.  [default: rtx with "
    "--compute-capability; otherwise the installed library, or tensorrt if both are installed]",
)
@click.option(
    "--compute-capability",
    metavar="M.N,…",
    callback=listed,
    help="With --trt: build for GPUs with these compute capabilities, such as 8.6,12.0. This requires TensorRT-RTX; a "
    "GPU is not required. NVIDIA lists the capability of each GPU at https://developer.nvidia.com/cuda-gpus.  "
    "[default: that of the GPU of this machine]",
)
@click.option(
    "--max-batch-size",
    "max_batch_size",
    type=click.IntRange(1),
    help="With --trt: largest number of items in one run of an engine. An item is a pair of an image and a sample.  "
    f"[default: {DEFAULT_PROFILE.batch_size}]",
)
@click.option(
    "--max-size",
    metavar="WxH",
    callback=height_and_width,
    help="With --trt: largest target of each item in a run, in pixels: WIDTHxHEIGHT, or one number for a square. "
    "Larger images are cut into tiles. Engines take memory for --max-batch-size targets of this size.  "
    f"[default: {DEFAULT_PROFILE.width}]",
)
@click.version_option(package_name="caflow-deploy", prog_name="caflow-export")
@ending_when_stopped("caflow-export")
def main(
    checkpoint: Path,
    output: Path | None,
    precision: str | None,
    data: Path | None,
    temperature: float | None,
    rank: str | None,
    force: bool,
    triton: Path | None,
    trt: str | None,
    trt_flavor: str | None,
    compute_capability: tuple[str, ...],
    max_batch_size: int | None,
    max_size: tuple[int, int] | None,
) -> None:
    """Export CHECKPOINT as a verified bundle. With --trt, also build TensorRT engines for the bundle.

    Exporting requires the extra export. CHECKPOINT is a file written by caflow-train or by the public CAFLOW
    implementation, a bundle, or the name of a built-in model: x4-photo, x4-real, x2-video, inpaint-photo or
    colour-hints. If CHECKPOINT is a bundle and -o is not given, --trt and --triton use its graphs unchanged. With -o, a
    float32 bundle is exported again, for example in another precision.

    Exit codes: 0 everything was written and verified; 1 the verification failed, or an engine could not be built; 2
    wrong use; 3 the bundle is complete, but its engines were not built because this machine has no GPU; 130 stopped
    by Ctrl-C; 143 stopped by SIGTERM.
    """
    console = CommandConsole()
    is_bundle = (checkpoint / MANIFEST).is_file()
    if trt and precision and precision != trt:
        end(
            f"--precision {precision} contradicts --trt {trt}: a bundle and its engines have the same precision; omit "
            "--precision"
        )
    for_trt = {
        "--trt-flavor": trt_flavor,
        "--compute-capability": compute_capability,
        "--max-batch-size": max_batch_size,
        "--max-size": max_size,
    }
    if not trt and (given := [option for option, value in for_trt.items() if value]):
        end(f"{' and '.join(given)}: no effect without --trt; also give --trt fp32, fp16 or bf16")
    if (precision == "int8") != (data is not None):
        end("--precision int8 requires --data, and --data requires --precision int8: give both or neither")
    as_it_is = is_bundle and not output
    if as_it_is and not (trt or triton):
        end(
            f"{checkpoint} is already a bundle: give --trt to build its engines, --triton to write a model repository, "
            "or -o to export its model again"
        )
    if as_it_is and (rank or temperature is not None):
        end(f"{checkpoint} is already a bundle, whose --temperature and --rank cannot be changed: give -o")
    if as_it_is and force and not triton:
        end(f"{checkpoint} is already a bundle, which --trt does not replace: omit --force")
    if as_it_is and precision:
        end(
            f"{checkpoint} is already a bundle, whose precision cannot be changed: omit --precision, or give -o to "
            "export its model again"
        )
    if as_it_is and trt:
        _check_precision(checkpoint, trt)
    cannot_build = _why_not(trt_flavor, compute_capability) if trt else None
    settings = {"force": force, "photographs": data, "temperature": temperature, "rank": rank}
    precision = trt or precision or "fp32"
    bundle = checkpoint if as_it_is else _export(checkpoint, output, precision, settings, console)
    if trt and not cannot_build:
        sides = max_size or (DEFAULT_PROFILE.height, DEFAULT_PROFILE.width)
        _build(
            bundle,
            trt_flavor,
            compute_capability,
            Profile(max_batch_size or DEFAULT_PROFILE.batch_size, *sides),
            console,
        )
    if triton:
        _serve(bundle, triton, force, console)
    if cannot_build:
        again = f"caflow-export {bundle} --trt {trt}{cannot_build.options}{_sizes_given(max_batch_size, max_size)}"
        end(f"{cannot_build}: {again}", code=NO_GPU)


def _sizes_given(max_batch_size: int | None, max_size: tuple[int, int] | None) -> str:
    """Return --max-batch-size and --max-size as the user gave them, for a command that is to be run elsewhere."""
    items = f" --max-batch-size {max_batch_size}" if max_batch_size else ""
    size = f" --max-size {max_size[1]}x{max_size[0]}" if max_size else ""
    return items + size


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


def _why_not(flavor: Any, compute_capabilities: tuple[str, ...]) -> "NeedsGpu | None":
    """Return the error if engines cannot be built because this machine has no GPU, or None if they can be built.

    End the command if TensorRT is missing or does not support the GPUs. The check runs before the export, which takes
    minutes.
    """
    try:
        from caflow_export.engine_targets import NeedsGpu, TensorRTUnavailable, choose
    except ModuleNotFoundError as error:
        end(f"--trt requires {error.name}: {INSTALL_BUILDER}")
    try:
        choose(flavor, compute_capabilities, gpu() if has_gpu() else None)
    except NeedsGpu as error:
        return error
    except TensorRTUnavailable as error:
        end(str(error))
    return None


def _export(
    checkpoint: Path, output: Path | None, precision: str, settings: Mapping[str, Any], console: CommandConsole
) -> Path:
    """Export a checkpoint. Return the path of the bundle. `settings` are further arguments of `export`."""
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
                checkpoint,
                output,
                precision,  # type: ignore[arg-type]
                processes=min(2, os.cpu_count() or 1),
                say=console.message,
                show=show,
                **settings,
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
        f"{report.path}  {report.bytes / 2**20:.1f} MiB, {report.share_of_parameters:.2f} × the size of the parameters"
    )
    return report.path


def _build(
    bundle: Path, flavor: Any, compute_capabilities: tuple[str, ...], profile: Profile, console: CommandConsole
) -> None:
    from caflow_export.measure import VerificationFailed
    from caflow_export.tensorrt_builder import BuildFailed
    from caflow_export.to_tensorrt import build_engines

    try:
        with _progress(console, "building") as show:
            folders = build_engines(
                bundle,
                flavor,
                compute_capabilities,
                profile,
                show,
                say=console.message,
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


def _serve(bundle: Path, repository: Path, force: bool, console: CommandConsole) -> None:
    from caflow_export.triton import write_repository
    from caflow_runtime.errors import InputError

    try:
        read_manifest(bundle)
        for folder in write_repository(bundle, repository, force):
            console.result(str(folder))
    except (InputError, BundleError, OSError) as error:
        end(f"no model repository was written: {error}")


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
