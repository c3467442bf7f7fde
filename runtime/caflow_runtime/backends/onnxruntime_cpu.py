"""Graphs on the CPU through ONNX Runtime."""

from pathlib import Path

import onnxruntime

from caflow_runtime.scan import Array, Arrays, Graph


def load_graph(path: Path, threads: int = 0) -> Graph:
    """The ONNX file as a callable on numpy arrays.

    Arguments:
        threads: for the graph's operators; 0 lets ONNX Runtime choose.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Each graph has its own threads; those of the last one would spin on while the next one runs, on the same cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def run(arrays: Arrays) -> dict[str, Array]:
        return dict(zip(outputs, session.run(outputs, {name: arrays[name] for name in inputs}), strict=True))

    return run
