"""The operators of exported graphs are those that readers of bundles accept."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from small_models import small_model
from test_tasks import DEGRADING
from test_transformations import VARIANTS
from tiny import TINY

from caflow_export.export import PRECISIONS, ExportError, _write_graphs
from caflow_export.graphs import ModelGraphs
from caflow_export.to_onnx import graphs_to_trace, trace
from caflow_export.weights import WeightStore
from caflow_runtime.bundle.builtin import MODELS
from caflow_runtime.bundle.external_data import OPERATORS
from caflow_runtime.bundle.reading import read_manifest, verify_files
from caflow_training.tasks import ImageToImage


@pytest.mark.parametrize("bundle", [TINY, *sorted(MODELS.glob("*.caflow"))], ids=lambda path: path.stem)
def test_built_in_bundles_are_accepted(bundle: Path) -> None:
    verify_files(bundle, read_manifest(bundle))


def unlisted(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node if node.domain or node.op_type.encode() not in OPERATORS}


@pytest.mark.full
@pytest.mark.parametrize("task", DEGRADING, ids=repr)
def test_graphs_of_every_task_are_accepted(task: Any) -> None:
    types = PRECISIONS["fp32"]
    model = small_model(torch.float32, task=task, levels=1)
    graphs = graphs_to_trace(model, ModelGraphs.of(model, types), types.state)
    assert not {name for graph in graphs if graph.name in ("encode", "degrade") for name in unlisted(trace(graph))}


@pytest.mark.full
@pytest.mark.parametrize(
    "variant", ["shared", "residual super-resolution", "mean network, degradation", "logit, variational"]
)
def test_graphs_of_every_kind_of_layer_are_accepted(variant: str) -> None:
    """Exports in other precisions are in `test_export.py`; each checks its own graphs."""
    types = PRECISIONS["fp32"]
    model = small_model(
        torch.float32, **{"task": ImageToImage(), **VARIANTS[variant], "levels": 2, "target_steps": 1, "own_steps": 1}
    )
    graphs = graphs_to_trace(model, ModelGraphs.of(model, types), types.state)
    assert not {name for graph in graphs for name in unlisted(trace(graph))}


def test_an_export_with_another_operator_fails(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Atan", ["x"], ["y"])], "reverse_0", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    to_trace: list[Any] = [SimpleNamespace(name="reverse_0")]
    numbers: Any = None
    with (tmp_path / "weights.bin").open("w+b") as file:
        store = WeightStore(file)
        with pytest.raises(ExportError, match=r"reverse_0: runtimes refuse the operators Atan: .*operators\.txt"):
            _write_graphs(to_trace, [model], store, tmp_path, numbers)
