"""Graphs whose outputs differ from the manifest, that read files which it does not list, or that might never end.

Their hashes are correct, so that only the checks of the graphs can find them. The Python and the C++ runtime must both
refuse them, and name the graph and what is wrong with it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from c_library import CModel, refused
from onnx import TensorProto, helper
from tiny import edited

from caflow_runtime.bundle.bundle_errors import BrokenGraph, BundleError, UnlistedFile, WrongShape
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.pipeline.pipeline import load

pytestmark = pytest.mark.usefixtures("built_cpp")

CONDITION = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
TARGET = np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3)

Node = tuple[str, list[str], dict[str, Any]]
"""An operator with its inputs after the first one, by their names in `CONSTANTS`, and with its attributes."""
CONSTANTS = {"axis 0": [0], "axis 1": [1], "axes": [1, 2], "start": [0], "end": [1], "flat": [-1]}
ALTERATIONS: dict[str, Node] = {
    "of another type": ("Cast", [], {"to": TensorProto.DOUBLE}),
    "of half the bytes": ("Cast", [], {"to": TensorProto.FLOAT16}),
    "with an axis more": ("Unsqueeze", ["axis 0"], {}),
    "of one cell": ("ReduceSum", ["axes"], {"keepdims": 1}),
    "of the first row": ("Slice", ["start", "end", "axis 0"], {}),
    "of the first line": ("Slice", ["start", "end", "axis 1"], {}),
    "side by side": ("Reshape", ["flat"], {}),
    "turned": ("Transpose", [], {}),
}
CASES = [
    *(("reverse_1.log_likelihood_map", what) for what in ALTERATIONS),
    *(("decode_0.latent", what) for what in ("of another type", "of the first row")),
    *(("decode_0.next_passing", what) for what in ("of the first line", "missing")),
    *(("reverse_1.pixels", what) for what in ("turned", "missing")),
    ("forward_0.log_likelihood_map", "of one cell"),
    *(("likelihood_1.z", what) for what in ("of half the bytes", "turned")),
    *(("encode.own_shift_1", what) for what in ("of the first line", "of another type")),
]


def change_graph(folder: Path, name: str, change: Callable[[onnx.ModelProto], object]) -> None:
    """Change an ONNX file, and update its hash in the manifest."""
    path = folder / f"{name}.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    with edited(folder) as manifest:
        entry_of(manifest, name)["file"] = msgspec.to_builtins(describe_file(folder, path.name))


def entry_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(graph for graph in manifest["graphs"] if graph["name"] == name)


def alter(model: onnx.ModelProto, output: str, node: Node) -> None:
    """Apply an operator to an output. The result replaces the output under the same name."""
    graph, (operator, inputs, attributes) = model.graph, node
    for one in graph.node:
        for names in (one.input, one.output):
            names[:] = ["before" if name == output else name for name in names]
    for name, values in CONSTANTS.items():
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
    graph.node.append(helper.make_node(operator, ["before", *inputs], [output], **attributes))
    kind = next(value for value in graph.output if value.name == output).type.tensor_type
    kind.ClearField("shape")
    kind.elem_type = attributes.get("to", TensorProto.FLOAT)


def run_all(folder: Path) -> None:
    with load(folder, backend="cpu", threads=1) as pipe:
        pipe.best_of(CONDITION, n=2)
        pipe.score(TARGET, CONDITION)


def run_all_in_cpp(folder: Path) -> None:
    with CModel(folder, threads=1) as model:
        model.best_of([CONDITION], n=2)
        model.score([TARGET], [CONDITION])


def check_wrong_shape(folder: Path, message: str) -> None:
    with pytest.raises(WrongShape, match=message):
        run_all(folder)
    with refused("bundle", message):
        run_all_in_cpp(folder)


@pytest.mark.parametrize(("output", "what"), CASES)
def test_outputs_of_wrong_type_or_shape_are_named(copied: Path, output: str, what: str) -> None:
    name, _, output = output.partition(".")

    def change(model: onnx.ModelProto) -> None:
        if what == "missing":
            model.graph.output.remove(next(value for value in model.graph.output if value.name == output))
        else:
            alter(model, output, ALTERATIONS[what])

    change_graph(copied, name, change)
    check_wrong_shape(copied, rf"{name}\.onnx: .*{name}.* {output}")


def test_maps_without_square_cells_are_refused_whatever_the_manifest_says(copied: Path) -> None:
    change_graph(copied, "forward_1", lambda model: alter(model, "log_likelihood_map", ALTERATIONS["of one cell"]))
    with edited(copied) as manifest:
        outputs = entry_of(manifest, "forward_1")["outputs"]
        next(port for port in outputs if port["name"] == "log_likelihood_map")["shape"] = ["items", 1, 1]
    check_wrong_shape(copied, "log-likelihood maps must have square cells")


def locations(model: onnx.ModelProto) -> list[Any]:
    """Return the entries of external data that name a file."""
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    return [entry for tensor in tensors for entry in tensor.external_data if entry.key == "location"]


def into_an_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="other.bin")
    model.graph.node.append(helper.make_node("Neg", [], ["c"], value=tensor))


def renamed(location: str) -> Callable[[onnx.ModelProto], None]:
    def rename(model: onnx.ModelProto) -> None:
        locations(model)[-1].value = location

    return rename


def twice(model: onnx.ModelProto) -> None:
    """Add a second location to a weight. Readers differ in which of two locations they use."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    tensor.external_data.add(key="location", value="other.bin")


def repeated(model: onnx.ModelProto) -> None:
    """Add a loop that would not end in a lifetime."""
    bool_, number = TensorProto.BOOL, TensorProto.INT64
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("k", number), ("more", bool_))]
    body = helper.make_graph([], "body", inputs, inputs[1:])
    model.graph.initializer.append(helper.make_tensor("trips", number, [], [2**62]))
    model.graph.node.append(helper.make_node("Loop", ["trips", ""], [], body=body))


INNER = helper.make_attribute("body", helper.make_graph([], "inner", [], []))
FUNCTION = helper.make_function("", "Neg", [], [], [], [helper.make_opsetid("", 18)])
REFUSED: list[tuple[Callable[[onnx.ModelProto], object], type[BundleError], str]] = [
    *((renamed(location), UnlistedFile, "does not list") for location in (
        *("other.bin", "../w2/weights.bin", "./weights.bin", "weights.bin/", "a/../weights.bin", "/etc/passwd", ""),
        *("WEIGHTS.BIN", "weights.bin\0", "manifest.json", "*/_ORT_MEM_ADDR_/*", "encode.onnx", "x" * 300),
    )),
    (into_an_attribute, UnlistedFile, "'other.bin'"),
    (twice, UnlistedFile, "'other.bin'"),
    (lambda model: setattr(model.graph.node[0], "domain", "com.microsoft"),
     BrokenGraph, "operators must be ONNX's own; got one of 'com.microsoft'"),
    (repeated, BrokenGraph, "operators must be those that this version exports; got 'Loop'"),
    *((change, BrokenGraph, "must have one graph and no inner graphs, functions or training steps") for change in (
        lambda model: model.graph.node[0].attribute.append(INNER),
        lambda model: model.functions.append(FUNCTION),
        lambda model: model.training_info.add(),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), REFUSED)
def test_graphs_that_read_other_files_or_might_never_end_are_refused(
    copied: Path, change: Callable[[onnx.ModelProto], object], error: type[BundleError], message: str
) -> None:
    """They are refused although other.bin and ../w2/weights.bin exist and have the right contents."""
    (copied.parent / "w2").mkdir()
    for place in (copied / "other.bin", copied.parent / "w2" / "weights.bin"):
        os.link(copied / "weights.bin", place)
    change_graph(copied, "reverse_0", change)
    with pytest.raises(error, match=rf"reverse_0\.onnx.*{message}"):
        load(copied, backend="cpu")
    with refused("bundle", rf"reverse_0\.onnx.*{message}"):
        CModel(copied)


def rewritten(folder: Path) -> None:
    """Rewrite a graph without a change, so that the errors of the other tests come from their changes."""
    change_graph(folder, "encode", lambda _: None)


def into_a_folder(folder: Path) -> None:
    """Locations in an ONNX file are relative to its own folder."""
    (folder / "below").mkdir()
    with edited(folder) as manifest:
        for file in [*(graph["file"] for graph in manifest["graphs"]), *manifest["weights"]]:
            (folder / file["path"]).rename(folder / "below" / file["path"])
            file["path"] = f"below/{file['path']}"


def named_like_a_format_of_onnx_runtime(folder: Path) -> None:
    """By this suffix, ONNX Runtime would expect its own format, in which a file may name other files."""
    with edited(folder) as manifest:
        entry_of(manifest, "reverse_0")["file"]["path"] = "reverse_0.ort"
    (folder / "reverse_0.onnx").rename(folder / "reverse_0.ort")


@pytest.mark.parametrize("change", [rewritten, into_a_folder, named_like_a_format_of_onnx_runtime])
def test_graphs_with_other_names_and_places_are_accepted(copied: Path, change: Callable[[Path], None]) -> None:
    change(copied)
    run_all(copied)
    run_all_in_cpp(copied)
