"""Export of a checkpoint as a verified bundle. If the export fails, no bundle is written."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch

from caflow_cli.stops import ctrl_c_blocked
from caflow_deploy.images.photographs import Pair, pairs_of, photographs_in
from caflow_export.cuda_nodes import nodes_on_cpu
from caflow_export.export_options import ExportOptions
from caflow_export.graphs import ModelGraphs
from caflow_export.int8 import in_int8
from caflow_export.levels import Precision
from caflow_export.manifest_entries import graph_entry, numbers_of, source_of
from caflow_export.to_onnx import GraphToTrace, graphs_to_trace, trace, trace_to_bytes
from caflow_export.verify import converting, smooth_conditions, torch_graphs, verify
from caflow_export.weights import WeightStore
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle import builtin, stored_checkpoint
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.external_data import OPERATORS
from caflow_runtime.bundle.file_names import CARD, MANIFEST, SHEET
from caflow_runtime.bundle.manifest import DEFAULT_SAMPLING, PrecisionName
from caflow_runtime.bundle.reading import describe_file, read_manifest, verify_files, write_manifest
from caflow_runtime.bundle.run_memory import write_memory
from caflow_runtime.bundle.stored_checkpoint import WEIGHTS
from caflow_runtime.errors import CaflowError, UnreadableImage
from caflow_runtime.file_io.atomic_files import atomic_folder
from caflow_runtime.interruptible import deferring_stops
from caflow_runtime.ood import calibration
from caflow_runtime.pipeline.measured_memory import CannotMeasure, measure_memory
from caflow_training import checkpoint as checkpoints
from caflow_training.config import config_to_dict
from caflow_training.model import CAFlow
from caflow_training.task_traits import Image
from caflow_training.tasks import ImageToImage, Task
from caflow_training.validation import ExplodingInverse, write_sheet

SHEET_SIDES_IN_MULTIPLES = (4, 4)
SHEET_TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
MAX_PHOTOGRAPHS, SIDE = 32, 128
"""Most photographs from which int8 networks learn their ranges, and side of the square crop of each, in pixels."""

PRECISIONS: dict[PrecisionName, Precision] = {
    "fp32": Precision(torch.float32, torch.float32),
    "fp16": Precision(torch.float16, torch.float32),
    "bf16": Precision(torch.bfloat16, torch.float32),
    "int8": Precision(torch.float32, torch.float32),  # as traced; `int8.py` quantizes the graphs
}


class ExportError(RuntimeError):
    """A checkpoint cannot be exported. No bundle was written."""


@dataclass(frozen=True)
class ExportReport:
    """Result of an export."""

    path: Path
    """Folder of the bundle."""
    manifest: bundle.Manifest
    bytes: int
    """Size of all files of the bundle."""
    share_of_parameters: float
    """`bytes` divided by the size of the model's parameters: 2 bytes each for fp16 and bf16, 4 for fp32 and int8."""


def export(
    checkpoint: str | Path,
    output: str | Path | None = None,
    options: ExportOptions = ExportOptions(),
    *,
    processes: int = 1,
    say: Callable[[str], None] | None = None,
    show: Callable[[str, int, int], None] | None = None,
) -> ExportReport:
    """Export the model of a checkpoint as a bundle, and verify the bundle.

    The model is cut into graphs, each graph is traced to ONNX, and all graphs are compared with the model in float64.

    Arguments:
        checkpoint: a checkpoint file of this project or of the public reference implementation, a float32 bundle, or
            the name of a built-in model.
        output: folder of the bundle. By default the path of the checkpoint with the suffix `.caflow`.
        options: precision of the networks, and what the bundle names as best.
        processes: number of processes that trace graphs in parallel. With more than one, the calling script requires
            `if __name__ == "__main__":`.
        say: called with each note for the user.
        show: called after each graph with its name, the number of graphs traced so far, and their total number.

    Raises:
        CheckpointError, ConfigError: if the checkpoint cannot be read.
        ExportError: if `output` exists and must not be replaced, if the photographs cannot be used, if the model's
            samples are not finite, or if ONNX Runtime's CUDA provider lacks a kernel.
        VerificationFailed: if a graph does not compute the same as the model.
    """
    given, checkpoint = Path(checkpoint), builtin.find_bundle(checkpoint)
    if not checkpoint.exists():
        raise ExportError(
            f"{checkpoint}: expected a checkpoint, a bundle, or a built-in model; there is no such file or folder, and "
            f"the built-in models are {', '.join(builtin.names())}"
        )
    model = checkpoints.load(checkpoint)
    output = Path(output) if output is not None else given.with_suffix(".caflow")
    if output.exists() and output.samefile(checkpoint):
        raise ExportError(f"{output} is both the input and the output: give another name with -o")
    if output.exists() and not (output / MANIFEST).is_file():
        raise ExportError(f"{output} already exists and is not a bundle: give another name with -o")
    if output.exists() and not options.force:
        raise ExportError(f"{output} already exists: give --force to replace it, or another name with -o")
    precision, own = options.precision, _sampling_of(checkpoint)
    given_temperature = own.temperature if options.temperature is None else options.temperature
    sampling = bundle.Sampling(given_temperature, options.rank or own.rank)
    numbers = numbers_of(model, sampling)
    quiet = say or (lambda _: None)
    pairs = None if options.data is None else _pairs(Path(options.data), model.config.task, numbers, quiet)
    types = PRECISIONS[precision]
    to_trace = list(graphs_to_trace(model, ModelGraphs.of(model, types), types.state))
    loses_calibration = (output / calibration.NAME).exists()
    with atomic_folder(output) as partial:
        source = source_of(checkpoint)
        with (partial / WEIGHTS).open("w+b") as file:
            store = WeightStore(file)
            traced = _traced(to_trace, processes, show)
            if pairs is not None:
                traced = iter(in_int8(to_trace, list(traced), numbers, pairs))
            graphs = _write_graphs(to_trace, traced, store, partial, numbers)
            if precision != "bf16":  # which the backend cuda refuses
                _check_kernels(partial, graphs)
            if precision == "fp32":  # the graphs of other precisions contain rounded weights
                _write_checkpoint(model, store, partial, source.training)
        runnable, verified_with = _runnable(model, partial, graphs, precision)
        measured = verify(model, runnable, precision, verified_with)
        manifest = bundle.Manifest(
            format=bundle.FORMAT,
            format_version=bundle.FORMAT_VERSION,
            precision=precision,
            model=numbers,
            graphs=graphs,
            weights=[describe_file(partial, WEIGHTS)],
            verification=measured,
            source=source,
        )
        write_manifest(partial, manifest)
        (partial / CARD).write_text(_card(manifest))
        _write_sheet(partial / SHEET, model)
        verify_files(partial, read_manifest(partial))
        _measure_memory(partial, precision, say)
    if say and loses_calibration:
        say(f"{output}: the calibration of the replaced bundle was removed: run caflow calibrate again")
    size = sum(file.stat().st_size for file in output.iterdir())
    parameters = sum(p.numel() for p in model.parameters()) * types.network.itemsize
    return ExportReport(output, manifest, size, size / parameters)


def _sampling_of(checkpoint: Path) -> bundle.Sampling:
    """Return the sampling settings of a bundle, or the default ones of a checkpoint."""
    if not checkpoint.is_dir():
        return DEFAULT_SAMPLING
    try:
        return read_manifest(checkpoint).model.sampling
    except BundleError:  # of another version of the format: its checkpoint can be exported all the same
        return DEFAULT_SAMPLING


def _traced(
    to_trace: list[GraphToTrace], processes: int, show: Callable[[str, int, int], None] | None
) -> Iterator[onnx.ModelProto]:
    """Trace the graphs and yield them in order, each with its weights inside."""
    with ExitStack() as stack:
        traced: Iterable[onnx.ModelProto] = map(trace, to_trace)
        if processes > 1:
            # Processes are spawned, because PyTorch's threads do not survive a fork.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(processes, context)
            stack.callback(pool.shutdown, cancel_futures=True)
            # The processes ignore Ctrl-C until they trace, because one that is interrupted while it starts says so.
            # They receive bytes, because the server that would send them tensors complains when one is interrupted.
            # Stops are deferred, because PyTorch clears some exceptions while it pickles tensors.
            with deferring_stops(), ctrl_c_blocked():
                futures = [pool.submit(trace_to_bytes, pickle.dumps(graph)) for graph in to_trace]
            traced = (onnx.load_from_string(future.result()) for future in futures)
        for done, (graph, proto) in enumerate(zip(to_trace, traced, strict=True), start=1):
            yield proto
            if show:
                show(graph.name, done, len(to_trace))


def _write_graphs(
    to_trace: list[GraphToTrace],
    traced: Iterable[onnx.ModelProto],
    store: WeightStore,
    folder: Path,
    numbers: bundle.Model,
) -> list[bundle.Graph]:
    """Write the graphs to `folder` and their weights to the store. Return the graphs' entries in the manifest."""
    protos: list[onnx.ModelProto] = []
    for graph, proto in zip(to_trace, traced, strict=True):
        store.move_out(proto)
        onnx.save(proto, folder / f"{graph.name}.onnx")
        protos.append(proto)
    store.flush()
    for graph, proto in zip(to_trace, protos, strict=True):
        onnx.checker.check_model(folder / f"{graph.name}.onnx", full_check=True)
        if unknown := {node.op_type for node in proto.graph.node if node.op_type.encode() not in OPERATORS}:
            raise ExportError(
                f"{graph.name}: runtimes refuse the operators {', '.join(sorted(unknown))}: compute it with others, or "
                "add them to bundle/operators.txt of the runtime"
            )
    return [
        graph_entry(graph, proto, describe_file(folder, f"{graph.name}.onnx"), bundle.cell_side(numbers, graph.name))
        for graph, proto in zip(to_trace, protos, strict=True)
    ]


def _check_kernels(folder: Path, graphs: list[bundle.Graph]) -> None:
    """Check that ONNX Runtime's CUDA provider has a kernel for each node.

    Raises:
        ExportError: if a node would run on the CPU. The message names the graph and the operators.
    """
    for graph in graphs:
        if missing := nodes_on_cpu(onnx.load(folder / graph.file.path, load_external_data=False)):
            raise ExportError(
                f"{graph.name}: ONNX Runtime's CUDA provider has no kernel for {', '.join(missing)}, so each such node "
                "would copy its input to the CPU: compute it with other operators, as arctangents in to_onnx.py are"
            )


def _pairs(folder: Path, task: Task, numbers: bundle.Model, say: Callable[[str], None]) -> list[Pair]:
    """Return one pair of target and condition from each readable photograph of a folder.

    If there are more than `MAX_PHOTOGRAPHS`, photographs at regular intervals are used, because neighbouring files
    are often similar.
    """
    rng, pairs = np.random.default_rng(0), list[Pair]()

    def degrade(target: Image) -> Image:
        if isinstance(task, ImageToImage):
            raise ExportError(f"{folder}: expected pairs, in the subfolders A (conditions) and B (targets)")
        return task.degrade(target, rng)

    try:
        found = photographs_in(folder)
        for one in found[:: ceil(len(found) / MAX_PHOTOGRAPHS)]:
            try:
                pairs += pairs_of(one, numbers, degrade, [SIDE])[:1]
            except UnreadableImage as error:
                say(f"skipped: {error}")
    except (CaflowError, OSError) as error:
        raise ExportError(str(error)) from None
    if not pairs:
        raise ExportError(f"{folder}: expected photographs of at least {SIDE}×{SIDE} pixels; found none")
    if len(pairs) < MAX_PHOTOGRAPHS:
        say(f"photographs that set the ranges of the integers: {len(pairs)}; give {MAX_PHOTOGRAPHS} or more")
    return pairs


def _write_checkpoint(model: CAFlow, store: WeightStore, folder: Path, training: dict[str, Any]) -> None:
    """Write `checkpoint.json`. With this file, training can start from the bundle, and its model can be exported."""
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    stored = stored_checkpoint.StoredCheckpoint(
        format=checkpoints.FORMAT,
        version=checkpoints.FORMAT_VERSION,
        config=config_to_dict(model.config),
        training=training or None,
        weights={name: store.keep(weight) for name, weight in weights.items()},
        sha256=stored_checkpoint.digest(weights),
        config_sha256=stored_checkpoint.digest_of_config(config_to_dict(model.config)),
    )
    (folder / stored_checkpoint.NAME).write_bytes(msgspec.json.encode(stored))


def _runnable(
    model: CAFlow, folder: Path, graphs: list[bundle.Graph], precision: PrecisionName
) -> tuple[Mapping[str, Any], str]:
    """Return the graphs as callables, and the name of the backend that runs them.

    The backend is ONNX Runtime. For bfloat16 it is PyTorch, because ONNX Runtime has no bfloat16 convolution on CPUs.
    """
    if precision == "bf16":
        return torch_graphs(model, PRECISIONS[precision]), "PyTorch CPU, same types"
    loaded = {graph.name: OnnxRuntimeCpu().load(folder / graph.file.path) for graph in graphs}
    return converting(loaded, graphs), "ONNX Runtime CPU"


def _measure_memory(folder: Path, precision: PrecisionName, say: Callable[[str], None] | None) -> None:
    """Measure how much memory runs take, and write `memory.json`. Do nothing if this system cannot measure memory."""
    if precision in OnnxRuntimeCpu.lacks:
        return
    try:
        measured = measure_memory(folder)
    except CannotMeasure as error:
        if say:
            say(f"the memory that runs take was not measured: {error}")
        return
    write_memory(folder, OnnxRuntimeCpu.name, measured.sample, measured.score)


def _write_sheet(path: Path, model: CAFlow) -> None:
    """Write a picture of samples of two smooth random conditions: each prepared, then a sample per temperature."""
    conditions = smooth_conditions(model, *SHEET_SIDES_IN_MULTIPLES)
    try:
        write_sheet(path, model, conditions, None, SHEET_TEMPERATURES, seed=0)
    except ExplodingInverse as error:
        raise ExportError(str(error)) from None


def _card(manifest: bundle.Manifest) -> str:
    """Return the model card, in Markdown."""
    model = manifest.model
    return f"""# A CAFLOW bundle: {model.task}, ×{model.scale}

{model.levels} levels, {model.dependencies} dependencies, networks in {manifest.precision}. The sides of a target must
be multiples of {model.size_multiple}; the runtime pads other images and crops the results.

Exported by caflow-deploy {manifest.source.exporter_version} from a checkpoint ({manifest.source.checkpoint_format})
with SHA-256 {manifest.source.checkpoint_sha256}.

![Two smooth random conditions, each with samples at temperatures {SHEET_TEMPERATURES}]({SHEET})

Its graphs passed {len(manifest.verification)} checks against the model in float64, in
{manifest.verification[0].verified_with}. `caflow info -v` lists the errors.
"""
