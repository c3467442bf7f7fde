"""The graphs of a bundle, each loaded when it is first needed: sampling never loads what only scoring uses."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from caflow_runtime.backends.backend import Backend
from caflow_runtime.bundle.reading import read_manifest, verify_files
from caflow_runtime.bundle.wrong_bundle import BrokenGraph
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.ports import checked
from caflow_runtime.flow.scan import Array, Arrays, Graph


class Graphs(Mapping[str, Graph]):
    """Graph by name, checked against the manifest at each run. Any thread may ask."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        """Reads the manifest and checks every file.

        Raises:
            BundleError
        """
        self.folder = folder
        self.backend = backend
        self.manifest = read_manifest(folder)
        verify_files(folder, self.manifest)
        self._loaded: dict[str, Graph] = {}
        self._lock = Lock()
        self._closed = False

    def __getitem__(self, name: str) -> Graph:
        with self._lock:
            if self._closed:
                raise BackendError("the pipeline is closed: load the bundle again")
            if self.manifest.precision in self.backend.lacks:
                raise BackendError(
                    f"{self.backend.name} does not run networks in {self.manifest.precision}",
                    "give --backend openvino, or a bundle of another precision",
                )
            if name not in self._loaded:
                graph = self.manifest.graph(name)
                path = self.folder / graph.file.path
                try:
                    loaded = self.backend.load(path)
                except (BackendError, MemoryError):
                    raise
                except Exception as error:  # a backend's exceptions share no base class
                    raise BrokenGraph(f"{path}: {self.backend.name} cannot load it: {error}") from error
                self._loaded[name] = checked(loaded, graph, path, self.backend.describe)
            return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return (graph.name for graph in self.manifest.graphs)

    def __len__(self) -> int:
        return len(self.manifest.graphs)

    def on_host(self) -> dict[str, Graph]:
        """The same graphs, taking and giving numpy arrays."""
        return {name: self._on_host(name) for name in self}

    def _on_host(self, name: str) -> Graph:
        backend = self.backend

        def run(arrays: Arrays) -> dict[str, Array]:
            inputs = [port.name for port in self.manifest.graph(name).inputs if port.name in arrays]
            out = self[name]({key: backend.to_device(arrays[key]) for key in inputs})
            return {key: backend.to_host(array) for key, array in out.items()}

        return run

    def spare_memory(self) -> None:
        """After memory ran out: free what the backend has kept for later runs, and keep none from now on."""
        if self.backend.spare_memory():
            model = self.manifest.model
            side = model.size_multiple // model.scale
            smallest = np.zeros((1, side, side, model.channels), np.uint8)
            with suppress(MemoryError):  # then the first run that fits frees it
                self["encode"]({"condition": self.backend.to_device(smallest)})

    def close(self) -> None:
        """Let go of what is loaded."""
        with self._lock:
            self._closed = True
        try:
            self.backend.close()  # waits for what runs, which may ask for a graph
        finally:
            with self._lock:
                self._loaded.clear()
