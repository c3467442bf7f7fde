"""Variants of `gpu.py` that run the graphs of a bundle in ONNX Runtime.

* `onnxruntime`: the graphs as the backend `cuda` runs them.
* `onnxruntime, CUDA graphs`: the same, with each graph recorded as a CUDA graph.
* `onnxruntime, CUDA graphs, NHWC`: the latter, with the memory layout that suits the matrix units of GPUs.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_cases import NAMES, Case, Comparison, Subject, Truth, chain

from caflow_runtime.backends.onnx_packages import import_onnxruntime
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound
from caflow_runtime.backends.provider_sessions import ERRORS_ONLY, ProviderSessions
from caflow_runtime.backends.providers import PROVIDERS
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import BackendError
from caflow_runtime.flow import level_chain

Open = Callable[[], Mapping[str, level_chain.Graph]]

RECORDINGS: dict[str, dict[str, str]] = {
    "onnxruntime, CUDA graphs": {},
    "onnxruntime, CUDA graphs, NHWC": {"prefer_nhwc": "1"},
}
"""Settings of the CUDA provider for each variant that is recorded."""


class Recorded:
    """Graph that ONNX Runtime records as a CUDA graph at the first call, and replays at the next calls.

    All calls must pass the same arrays. Their results are written to the same memory. On a GPU, all calls but the first
    do not wait for the results. On the CPU, nothing is recorded.
    """

    def __init__(
        self, path: Path, graph: level_chain.Graph, stream: torch.cuda.Stream | None, settings: dict[str, str]
    ) -> None:
        """Open the graph.

        Arguments:
            graph: the same graph without a recording; it tells the shapes of the results.
            stream: stream on which all graphs of the chain run; None on the CPU.
            settings: further settings of the CUDA provider.
        """
        ort = import_onnxruntime()
        provider: Any = PROVIDERS["cpu"].name
        self.options = ort.RunOptions()
        if stream is not None:
            self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            common = {"use_tf32": "0", "enable_cuda_graph": "1", "user_compute_stream": str(stream.cuda_stream)}
            provider = PROVIDERS["cuda"].name, common | settings
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.enable_mem_pattern = False  # a pattern allocates memory in a later run, which a recording forbids
        # Without `enable_fallback`, a graph that cannot be recorded raises an error. It would run on the CPU otherwise.
        self.session = ort.InferenceSession(path, options, providers=[provider], enable_fallback=0)
        self.graph = graph
        self.binding: Any = None
        self.results: dict[str, Any] = {}

    def __call__(self, arrays: level_chain.Arrays) -> dict[str, Any]:
        """Run or replay the graph."""
        options = self.options
        if self.binding is None:
            self.results = self.graph(arrays)
            self.binding = self.session.io_binding()
            for value in self.session.get_inputs():
                self.binding.bind_ortvalue_input(value.name, arrays[value.name])
            for name, result in self.results.items():
                self.binding.bind_ortvalue_output(name, result)
            options = None  # wait for the results: the next graph reads them on another stream when it is first called
        self.session.run_with_iobinding(self.binding, options)
        return self.results


def ways(backend: OnnxRuntimeBound, folder: Path) -> Iterator[tuple[str, Open]]:
    """Yield each variant, with a function that opens the graphs of a bundle that sampling runs."""
    names = {
        graph.name: graph.file.path
        for graph in read_manifest(folder).graphs
        if graph.name.startswith(("encode", "decode", "reverse", "to_image"))
    }

    def plain() -> dict[str, level_chain.Graph]:
        return {name: backend.load(folder / path) for name, path in names.items()}

    def recorded(settings: dict[str, str]) -> dict[str, level_chain.Graph]:
        stream = torch.cuda.Stream() if backend.memory == "cuda" else None
        graphs = plain()
        return {name: Recorded(folder / path, graphs[name], stream, settings) for name, path in names.items()}

    yield "onnxruntime", plain
    for way, settings in RECORDINGS.items():
        yield way, partial(recorded, settings)


def in_onnx_runtime(
    backend: OnnxRuntimeBound, graphs: Mapping[str, level_chain.Graph], case: Case, levels: int
) -> Callable[[], level_chain.ChainResult]:
    """Return a function that runs the chain of graphs, with all values on the device."""
    condition = backend.to_device(case.condition.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    image = backend.to_device(torch.zeros(case.samples, dtype=torch.int64).numpy())
    noise = [backend.to_device(z.cpu().numpy()) for z in case.per_level(levels)]
    return lambda: chain(graphs, levels, condition, image, noise)


def onnx_rows(subject: Subject, case: Case, exact: Truth, compared: Comparison) -> Iterator[dict[str, Any]]:
    """Yield rows by ONNX Runtime for each precision, if it has a provider for the device."""
    try:
        sessions = ProviderSessions(PROVIDERS[subject.device.type])
    except BackendError as error:
        print(f"onnxruntime is skipped: {error}")
        return
    backend = OnnxRuntimeBound("onnxruntime", sessions, memory=subject.device.type)
    for precision in NAMES[::2]:  # without bf16, for which ONNX Runtime has no convolutions
        for way, open_graphs in ways(backend, subject.bundle(precision)):
            try:
                run = in_onnx_runtime(backend, open_graphs(), case, subject.model.config.levels)
                took, rows = subject.seconds(run), run()
            except Exception as error:  # the exceptions of ONNX Runtime share no base class
                print(f"{way}, {precision}, is skipped: {error}")
                continue
            if subject.device.type == "cuda":
                torch.cuda.synchronize()  # a replay does not wait for its results
            yield compared.row(way, precision, took) | exact.errors(rows, lambda value: torch.from_numpy(value.numpy()))
