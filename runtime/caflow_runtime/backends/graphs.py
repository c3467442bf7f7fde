"""Graphs of a bundle. Each is loaded when it is first used, so sampling never loads graphs that only scoring uses."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from caflow_runtime.backends.backend import Backend, failure
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.bundle_errors import BrokenGraph
from caflow_runtime.bundle.manifest import DEGRADE, File
from caflow_runtime.bundle.reading import file_state, read_manifest, verify_file, verify_files
from caflow_runtime.errors import BackendError
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Arrays, Graph
from caflow_runtime.flow.ports import GraphPorts


class Graphs(Mapping[str, Graph]):
    """Graphs of a bundle by name. Any thread may use this object.

    The arrays of each run are checked against the manifest.
    """

    def __init__(self, folder: Path, backend: Backend) -> None:
        """Read the manifest and check the files of the bundle against their hashes.

        Raises:
            BundleError: if the bundle is not valid.
        """
        self.folder = folder.absolute()  # graphs are loaded later, when the working directory may be another one
        self.backend = backend
        self.manifest = read_manifest(folder)
        verify_files(folder, self.manifest)
        self._loaded: dict[str, Graph] = {}
        self._hashed: dict[str, tuple[int, ...] | None] = {}
        """States of files when they were hashed again, by path."""
        self._lock = Lock()
        self._closed = False

    def __getitem__(self, name: str) -> Graph:
        with self._lock:
            if self._closed:
                raise BackendError("the pipeline is closed: load the bundle again")
            if name != DEGRADE and self.manifest.precision in self.backend.lacks:
                raise BackendError(
                    f"{self.backend.name} does not support networks in {self.manifest.precision}",
                    "use `backend` openvino, or a bundle of another precision",
                )
            if name not in self._loaded:
                graph, backend = self.manifest.graph(name), self._backend_of(name)
                path = self.folder / graph.file.path
                try:
                    self._loaded[name] = backend.load(path, GraphPorts(graph, path, backend.describe))
                except (BackendError, MemoryError):
                    raise
                except Exception as error:  # the exceptions of the backends share no base class
                    reason = failure(path, f"{backend.name} cannot load this graph: {error}")
                    raise (reason if isinstance(reason, MemoryError) else BrokenGraph(str(reason))) from error
                finally:
                    self._check_unchanged(graph.file)
            return self._loaded[name]

    def _backend_of(self, name: str) -> Backend:
        """Return the backend of a graph: `degrade` runs on the CPU, where images are compared, at any size."""
        return self.backend if name != DEGRADE or self.backend.is_cpu else OnnxRuntimeCpu()

    def _check_unchanged(self, graph: File) -> None:
        """Check that the files that the backend has just read are those that were checked at opening.

        The results would otherwise be wrong, without an error. The weights, which all graphs share, are hashed at the
        first graph, and then only if they were written to.

        Raises:
            BundleError: if a file has changed.
        """
        for file in (*self.manifest.weights, graph):
            state = file_state(self.folder / file.path)
            if state is None or state != self._hashed.get(file.path):
                verify_file(self.folder, file, "has changed since the bundle was opened", "open the bundle again")
                self._hashed[file.path] = state

    def __contains__(self, name: object) -> bool:
        return any(graph.name == name for graph in self.manifest.graphs)  # Mapping would load the graph to find out

    def __iter__(self) -> Iterator[str]:
        return (graph.name for graph in self.manifest.graphs)

    def __len__(self) -> int:
        return len(self.manifest.graphs)

    def on_host(self) -> dict[str, Graph]:
        """Return the same graphs with NumPy arrays as inputs and outputs."""
        return {name: self._on_host(name) for name in self}

    def _on_host(self, name: str) -> Graph:
        backend, graph = self._backend_of(name), self.manifest.graph(name)
        # bfloat16 stays on the device: NumPy does not have this type, and such values only go from graph to graph.
        given = [port.name for port in graph.inputs if port.type != "bfloat16"]
        kept = [port.name for port in graph.outputs if port.type == "bfloat16"]

        def run(arrays: Arrays) -> dict[str, Array]:
            on_device = {key: backend.to_device(array) if key in given else array for key, array in arrays.items()}
            out = self[name](on_device)
            return {key: array if key in kept else backend.to_host(array) for key, array in out.items()}

        return run

    def spare_memory(self) -> None:
        """Free the memory that the backend keeps for later runs, and keep none from now on.

        This is used after memory ran out.
        """
        if self.backend.spare_memory():
            # The backend frees memory at the end of a run, so run the smallest input that there is.
            model = self.manifest.model
            side = model.size_multiple // model.scale
            smallest = np.zeros((1, side, side, model.channels), np.uint8)
            with suppress(MemoryError):  # if even this input does not fit, the next run that fits frees the memory
                level_chain.encode(self, self.backend.to_device(smallest))

    def close(self) -> None:
        """Remove the loaded graphs, which cannot be used after that. Work that is running fails at its next graph."""
        with self._lock:
            self._closed = True
            self._loaded.clear()
