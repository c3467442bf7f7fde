"""`export(checkpoint)`: a checkpoint to a verified bundle, whole or not at all."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any

import onnx
import torch

from caflow_export.cuda_nodes import nodes_on_cpu
from caflow_export.graphs import ModelGraphs
from caflow_export.int8 import in_int8
from caflow_export.levels import Precision
from caflow_export.operations import count_operations
from caflow_export.to_onnx import GraphToTrace, graphs_to_trace, trace, trace_to_bytes
from caflow_export.verify import converting, smooth_conditions, torch_graphs, verify
from caflow_export.weights import WeightStore
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle import builtin
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.file_names import CARD, MANIFEST, SHEET
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.bundle.reading import describe_file, read_manifest, sha256_of, verify_files, write_manifest
from caflow_runtime.bundle.run_memory import write_memory
from caflow_runtime.errors import CaflowError
from caflow_runtime.health.measured_memory import CannotMeasure, measure_memory
from caflow_runtime.jobs.photographs import Pair, pairs_of, photographs_in
from caflow_runtime.judge import calibration
from caflow_runtime.whole_files import whole_folder
from caflow_training import bundle_checkpoint, reference_checkpoint
from caflow_training import checkpoint as checkpoints
from caflow_training.bundle_checkpoint import WEIGHTS
from caflow_training.config import config_to_dict
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.validation import ExplodingInverse, write_sheet

SHEET_SIDES_IN_MULTIPLES = (4, 4)
SHEET_TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
MOST_PHOTOGRAPHS, SIDE = 32, 128
"""From which int8 networks learn their ranges: one crop of so many pixels of each."""

PRECISIONS: dict[PrecisionName, Precision] = {
    "fp32": Precision(torch.float32, torch.float32),
    "fp16": Precision(torch.float16, torch.float32),
    "bf16": Precision(torch.bfloat16, torch.float32),
    "int8": Precision(torch.float32, torch.float32),  # until `int8.py` makes integers of them
}
TYPE_NAMES: dict[int, Any] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT64: "int64",
}


class ExportError(RuntimeError):
    """A checkpoint cannot be exported; nothing was written."""


@dataclass(frozen=True)
class ExportReport:
    """What an export made."""

    path: Path
    """The bundle."""
    manifest: bundle.Manifest
    bytes: int
    """Of all its files."""
    share_of_parameters: float
    """`bytes` / bytes of the model's parameters in the networks' precision."""
    on_cpu: Counter[str]
    """Nodes of all graphs that ONNX Runtime's CUDA provider leaves to the CPU, by operator."""


def export(
    checkpoint: str | Path,
    output: str | Path | None = None,
    precision: PrecisionName = "fp32",
    force: bool = False,
    processes: int = 1,
    say: Callable[[str], None] | None = None,
    show: Callable[[str, int, int], None] | None = None,
    photographs: str | Path | None = None,
) -> ExportReport:
    """Cut the model of a checkpoint into graphs, trace them, hold them against the model, and write a bundle.

    Arguments:
        checkpoint: of this project or of the public reference implementation; or a bundle that was exported in float32,
            or the name of a built-in one.
        output: the bundle's folder; by default the checkpoint's name with `.caflow`, beside it.
        precision: of the networks; the flow's state stays float32.
        force: replace what is at `output`.
        processes: that trace at the same time. With more than one, a script needs `if __name__ == "__main__":`.
        say: is given the lines of the verification.
        show: is given the graph that was traced, how many are done, and how many there are.
        photographs: a folder from which int8 networks learn their ranges.

    Raises:
        CheckpointError, ConfigError: if the checkpoint cannot be read.
        ExportError: if `output` is there already, or is not a bundle that `force` may replace, or if the model's
            samples are not finite.
        VerificationFailed: if a graph does not compute what the model does.
    """
    given, checkpoint = Path(checkpoint), builtin.find_bundle(checkpoint)
    model = checkpoints.load(checkpoint)
    output = Path(output) if output is not None else given.with_suffix(".caflow")
    if output.exists() and output.samefile(checkpoint):
        raise ExportError(f"{output} is what would be exported: give another name with -o")
    if output.exists() and not force:
        raise ExportError(f"{output} is there already: give --force to replace it, or another name with -o")
    if output.exists() and not (output / MANIFEST).is_file():
        raise ExportError(f"{output} is not a bundle, so --force does not replace it: give another name with -o")
    if (precision == "int8") != (photographs is not None):
        raise ExportError("int8 networks, and no others, learn their ranges from photographs: give both or neither")
    numbers = numbers_of(model)
    pairs = None if photographs is None else _pairs(Path(photographs), numbers)
    types = PRECISIONS[precision]
    to_trace = list(graphs_to_trace(model, ModelGraphs.of(model, types), types.state))
    loses_calibration = (output / calibration.NAME).exists()
    with whole_folder(output) as partial:
        source = _source(checkpoint)
        with (partial / WEIGHTS).open("w+b") as file:
            store = WeightStore(file)
            traced = _traced(to_trace, processes, show)
            if pairs is not None:
                traced = iter(in_int8(to_trace, list(traced), numbers, pairs))
            graphs = _write_graphs(to_trace, traced, store, partial, numbers)
            if precision == "fp32":  # others have rounded the weights
                _write_checkpoint(model, store, partial, source.training)
        runnable, verified_with = _runnable(model, partial, graphs, precision)
        measured = verify(model, runnable, precision, verified_with, say)
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
        say(f"{output}: its calibration was of the old bundle and is gone: run caflow calibrate again")
    size = sum(file.stat().st_size for file in output.iterdir())
    parameters = sum(p.numel() for p in model.parameters()) * types.network.itemsize
    on_cpu = sum((nodes_on_cpu(onnx.load(output / g.file.path, load_external_data=False)) for g in graphs), Counter())
    return ExportReport(output, manifest, size, size / parameters, on_cpu)


def _traced(
    to_trace: list[GraphToTrace], processes: int, show: Callable[[str, int, int], None] | None
) -> Iterator[onnx.ModelProto]:
    """The graphs with their weights inside, one after the other."""
    with ExitStack() as stack:
        traced: Iterable[onnx.ModelProto] = map(trace, to_trace)
        if processes > 1:
            # Not fork: PyTorch's threads do not survive it.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, context))
            traced = map(onnx.load_from_string, pool.map(trace_to_bytes, to_trace))
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
    """Write graphs into `folder`, their weights into the store, and describe them."""
    protos: list[onnx.ModelProto] = []
    for graph, proto in zip(to_trace, traced, strict=True):
        store.move_out(proto)
        onnx.save(proto, folder / f"{graph.name}.onnx")
        protos.append(proto)
    store.flush()
    for graph in to_trace:
        onnx.checker.check_model(folder / f"{graph.name}.onnx", full_check=True)
    return [
        _graph(graph, proto, describe_file(folder, f"{graph.name}.onnx"), bundle.cell_side(numbers, graph.name))
        for graph, proto in zip(to_trace, protos, strict=True)
    ]


def _pairs(folder: Path, model: bundle.Model) -> list[Pair]:
    """One crop of each photograph of a folder, or of some from all over it, as neighbours are often alike."""
    try:
        found = photographs_in(folder)
        paths = found[:: ceil(len(found) / MOST_PHOTOGRAPHS)]
        pairs = [pair for path in paths for pair in pairs_of(path, folder, model, [SIDE])[:1]]
    except (CaflowError, OSError) as error:
        raise ExportError(str(error)) from None
    if not pairs:
        raise ExportError(f"{folder}: wanted photographs of at least {SIDE}×{SIDE} pixels, found none")
    return pairs


def _write_checkpoint(model: CAFlow, store: WeightStore, folder: Path, training: dict[str, Any]) -> None:
    """Write what makes the bundle a checkpoint as well: a new training can start from it, and it can be exported."""
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    stored = bundle_checkpoint.StoredCheckpoint(
        format=checkpoints.FORMAT,
        version=checkpoints.FORMAT_VERSION,
        config=config_to_dict(model.config),
        training=training or None,
        weights={name: store.keep(weight) for name, weight in weights.items()},
        sha256=bundle_checkpoint.digest(weights),
    )
    (folder / bundle_checkpoint.NAME).write_text(stored.model_dump_json())


def _runnable(
    model: CAFlow, folder: Path, graphs: list[bundle.Graph], precision: PrecisionName
) -> tuple[Mapping[str, Any], str]:
    """The graphs as callables: in ONNX Runtime, but for bfloat16, whose convolutions it has not on a CPU."""
    if precision == "bf16":
        return torch_graphs(model, PRECISIONS[precision]), "PyTorch CPU, same types"
    loaded = {graph.name: OnnxRuntimeCpu().load(folder / graph.file.path) for graph in graphs}
    return converting(loaded, graphs), "ONNX Runtime CPU"


def _measure_memory(folder: Path, precision: PrecisionName, say: Callable[[str], None] | None) -> None:
    """Write what memory runs take, where that can be measured here."""
    if precision in OnnxRuntimeCpu.lacks:
        return
    try:
        measured = measure_memory(folder)
    except CannotMeasure as error:
        if say:
            say(f"memory of runs: not measured: {error}")
        return
    write_memory(folder, OnnxRuntimeCpu.name, measured.sample, measured.score)


def _graph(graph: GraphToTrace, proto: onnx.ModelProto, file: bundle.File, cell: int) -> bundle.Graph:
    """Inputs as they were asked for, outputs as the tracer found them, sizes by the inputs' names."""
    names: dict[str, str] = {}
    for port, value in zip(graph.ports, proto.graph.input, strict=True):
        for wanted, dim in zip(port.shape, value.type.tensor_type.shape.dim, strict=True):
            if isinstance(wanted, str) and "*" not in dim.dim_param:
                names[dim.dim_param] = wanted
    inputs = [
        bundle.Port(port.name, TYPE_NAMES[value.type.tensor_type.elem_type], list(port.shape))
        for port, value in zip(graph.ports, proto.graph.input, strict=True)
    ]
    outputs = [_output(value, names) for value in proto.graph.output]
    return bundle.Graph(graph.name, file, inputs, outputs, count_operations(graph, cell))


def _output(value: onnx.ValueInfoProto, names: Mapping[str, str]) -> bundle.Port:
    def size(dim: Any) -> int | str:
        if not dim.dim_param:
            return int(dim.dim_value)
        factor, _, name = dim.dim_param.rpartition("*")
        named = names.get(name, name)
        return f"{factor}*{named}" if factor else named

    tensor = value.type.tensor_type
    return bundle.Port(value.name, TYPE_NAMES[tensor.elem_type], [size(dim) for dim in tensor.shape.dim])


def numbers_of(model: CAFlow) -> bundle.Model:
    """Return what a manifest says of a model: its task, sizes, levels and channels."""
    config = model.config
    shapes = model.conditional_flow.latent_shapes(CHANNELS, config.size_multiple, config.size_multiple)
    settings = asdict(config.task)
    return bundle.Model(
        task=settings.pop("task"),
        scale=settings.pop("scale"),
        task_settings=settings,
        size_multiple=config.size_multiple,
        levels=config.levels,
        channels=CHANNELS,
        residual=config.residual,
        dependencies=config.dependencies,
        noise_channels=[
            [shapes[i, j][0] for i in range(config.levels) if (i, j) in shapes] for j in range(config.levels)
        ],
    )


def _source(path: Path) -> bundle.Source:
    contents = checkpoints.read(path)
    is_reference = reference_checkpoint.is_reference(contents)
    training = {} if is_reference or contents["training"] is None else dict(contents["training"])
    training.pop("optimizer", None)
    return bundle.Source(
        checkpoint_sha256=sha256_of(path / bundle_checkpoint.NAME if path.is_dir() else path),
        checkpoint_format="public reference implementation" if is_reference else checkpoints.FORMAT,
        training=training,
        exporter_version=version("caflow-deploy"),
    )


def _write_sheet(path: Path, model: CAFlow) -> None:
    """What the model makes of two smooth random conditions: each as it is given, and a sample per temperature."""
    conditions = smooth_conditions(model, *SHEET_SIDES_IN_MULTIPLES)
    try:
        write_sheet(path, model, conditions, None, SHEET_TEMPERATURES, seed=0)
    except ExplodingInverse as error:
        raise ExportError(str(error)) from None


def _card(manifest: bundle.Manifest) -> str:
    """The model card."""
    model = manifest.model
    rows = "\n".join(
        f"| {m.graph} | {m.what} | {m.max_error:.2e} | {m.tolerance:.0e} |"
        for m in manifest.verification
        if m.graph in ("sample", "score", "flow")
    )
    return f"""# A CAFLOW bundle: {model.task}, ×{model.scale}

{model.levels} levels, {model.dependencies} dependencies, networks in {manifest.precision}. Target sides must be
multiples of {model.size_multiple}; a runtime pads and crops.

From a checkpoint of SHA-256 {manifest.source.checkpoint_sha256}, {manifest.source.checkpoint_format}, exported by
caflow-deploy {manifest.source.exporter_version}. Held against the model in float64 ({
        manifest.verification[0].verified_with
    }):

![Two smooth random conditions, each with samples at temperatures {SHEET_TEMPERATURES}]({SHEET})

| | what | largest error | allowed |
| --- | --- | --- | --- |
{rows}
"""
