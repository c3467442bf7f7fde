"""Stops while a graph runs, which would take minutes."""

import os
import signal
from pathlib import Path
from shutil import copytree
from threading import Timer
from typing import Any

import numpy as np
import onnx
import pytest
from c_library import CModel, refused
from commands import caflow
from onnx import helper, numpy_helper
from test_altered_graphs import CONDITION, TARGET, change_graph
from tiny import DATA

from caflow_runtime.backends import onnx_runtime
from caflow_runtime.pipeline.pipeline import load

CONVOLUTIONS = 1000
"""Number of convolutions that are added to a graph, which takes minutes then."""


@pytest.fixture(scope="module")
def slow(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle whose graph `decode_0` takes minutes. Scoring does not use this graph."""
    folder = Path(copytree(uncalibrated, tmp_path_factory.mktemp("slow") / "model.caflow"))
    change_graph(folder, "decode_0", slow_down)
    return folder


def slow_down(model: onnx.ModelProto) -> None:
    """Add convolutions, whose kernels are zero, to an output."""
    graph, output = model.graph, "log_likelihood_map"
    for node in graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    for name, values in (
        ("kernel", np.zeros((64, 64, 3, 3), np.float32)),
        ("shape", np.array([1, 64, 256, 256])),
        ("axis", np.array([0])),
    ):
        graph.initializer.append(numpy_helper.from_array(values, name))
    nodes = [
        ("ReduceSum", ["before"], "sum"),
        ("Unsqueeze", ["sum", "axis"], "cell"),
        ("Expand", ["cell", "shape"], "0"),
        *(("Conv", [str(k), "kernel"], str(k + 1)) for k in range(CONVOLUTIONS)),
        ("ReduceSum", [str(CONVOLUTIONS)], "zeros"),
        ("Squeeze", ["zeros", "axis"], "zero"),
        ("Add", ["before", "zero"], output),
    ]
    for operator, inputs, result in nodes:
        attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if operator == "Conv" else {}
        graph.node.append(helper.make_node(operator, inputs, [result], **attributes))


def stop_soon(number: int) -> None:
    """Send a signal to this process in a second."""
    Timer(1, os.kill, [os.getpid(), number]).start()


@pytest.mark.usefixtures("heeding_ctrl_c")
@pytest.mark.parametrize(
    ("result", "number", "message"),
    [
        ("large.png", signal.SIGINT, "caflow: stopped before the image was finished"),
        ("large.mp4", signal.SIGTERM, "caflow: stopped before the first frame, so nothing was written"),
    ],
)
def test_a_stopped_command_does_not_wait_for_its_graph(
    result: str, number: int, message: str, slow: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[object] = []

    def run(graph: onnx_runtime._SessionGraph, *arguments: Any) -> Any:
        if not runs:
            stop_soon(number)
        runs.append(graph)
        return original(graph, *arguments)

    original = onnx_runtime._SessionGraph._run
    monkeypatch.setattr(onnx_runtime._SessionGraph, "_run", run)
    photograph = DATA / "photographs" / "roman-colosseum.jpg"
    given = ("image", photograph) if result == "large.png" else ("video", clip)
    done = caflow(*given, "-o", tmp_path / result, "--model", slow, "--backend", "cpu", code=128 + number)
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_a_pipeline_works_after_a_stop(slow: Path) -> None:
    with load(slow, backend="cpu", threads=1) as pipe:
        expected = pipe.score(TARGET, CONDITION).log_likelihood
        stop_soon(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            pipe.best_of(CONDITION)
        assert pipe.score(TARGET, CONDITION).log_likelihood == expected


@pytest.mark.usefixtures("built_cpp")
def test_a_model_in_cpp_can_be_stopped_while_a_graph_runs(slow: Path) -> None:
    with CModel(slow, threads=1) as model:
        Timer(1, model.set_stopped, [True]).start()
        with refused("stopped", "caflow_set_stopped stopped the call"):
            model.best_of([CONDITION])
        model.set_stopped(False)
        assert len(model.score([TARGET], [CONDITION])) == 1
