"""Verification of a backend against the CPU, graph by graph, as it verifies engines on a GPU."""

from pathlib import Path

import pytest
from gpus import bound_to_cpu

from caflow_export.measure import VerificationFailed
from caflow_export.verify_engines import verify_engines
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.engine_sets import Profile, compiled_graphs
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.flow.ports import GraphPorts
from caflow_runtime.flow.scan import Array, Arrays, Graph


class Wrong(OnnxRuntimeCpu):
    """Backend with a wrong graph, as TensorRT had: with `rows` rows, the outputs of row `first` and later are wrong."""

    def __init__(self, name: str, rows: int, first: int) -> None:
        super().__init__()
        self.wrong, self.rows, self.first = name, rows, first
        self.profile = Profile(self.rows + 1, 128, 128)

    def load(self, path: Path, ports: GraphPorts | None = None) -> Graph:
        run = super().load(path, ports)

        def sometimes_wrong(arrays: Arrays) -> dict[str, Array]:
            out = run(arrays)
            is_off = path.stem == self.wrong and len(next(iter(out.values()))) == self.rows
            for array in out.values() if is_off else ():
                array[self.first :] += 1
            return out

        return sometimes_wrong


def test_every_graph_is_compared_with_the_cpu(uncalibrated: Path) -> None:
    measured = verify_engines(uncalibrated, bound_to_cpu())
    graphs = {graph.name for graph in compiled_graphs(read_manifest(uncalibrated))}
    assert {m.graph for m in measured} == graphs | {"sample", "flow"}
    assert max(m.max_error / m.tolerance for m in measured) < 0.1


@pytest.mark.parametrize(
    ("name", "rows", "first", "message"),
    [
        ("decode_1", 6, 0, r"decode_1: .*: the error must be at most"),
        ("likelihood_0", 6, 5, r"likelihood_0: .*: the error must be at most"),
        ("decode_0", 7, 0, "flow: 7 items against one alone, pixels: the error must be at most"),
        ("decode_0", 7, 6, "flow: 7 identical items, pixels: the error must be at most"),
    ],
)
def test_a_wrong_graph_and_its_batch_are_named(
    uncalibrated: Path, name: str, rows: int, first: int, message: str
) -> None:
    with pytest.raises(VerificationFailed, match=message):
        verify_engines(uncalibrated, Wrong(name, rows, first))
