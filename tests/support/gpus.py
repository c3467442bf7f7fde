"""Hook that skips tests on machines without a GPU, and what tests of backends share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from caflow_runtime.backends.gpu import has_gpu
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound, OnnxRuntimeCpu
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import PLUGINS, PROVIDERS
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.level_chain import Array, Arrays, Graph
from caflow_runtime.flow.ports import GraphPorts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not has_gpu():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="requires an NVIDIA GPU"))


def require(backend: str) -> None:
    """Skip the test if a backend cannot run here. The packages for GPUs cannot all be installed together."""
    if backend == "openvino":
        pytest.importorskip("openvino")
        return
    if backend == "ort:OpenVINO":
        openvino_plugin()
        return
    try:
        ProviderSessions(PROVIDERS[backend])
    except BackendError as error:
        pytest.skip(str(error))


def openvino_plugin() -> ProviderSessions:
    """Return OpenVINO's plug-in with its CPU device, or skip the test: it offers one on Intel's processors only."""
    pytest.importorskip("onnxruntime_ep_openvino")
    try:
        return ProviderSessions(PLUGINS["openvino"], threads=1)
    except BackendError as error:
        pytest.skip(str(error))


def bound_to_cpu() -> OnnxRuntimeBound:
    """Return ONNX Runtime with inputs and outputs bound to the memory of a device, which is that of the CPU."""
    return OnnxRuntimeBound("onnxruntime cpu", ProviderSessions(PROVIDERS["cpu"]), memory="cpu")


class Watched(OnnxRuntimeCpu):
    """The CPU as a backend whose runs a test sees, and may change."""

    def watch(self, name: str, arrays: Arrays, out: dict[str, Array]) -> dict[str, Array]:
        """Return the outputs of a run of the graph with this name. `out` has those of the CPU."""
        return out

    def load(self, path: Path, ports: GraphPorts | None = None) -> Graph:
        run = super().load(path, ports)
        return lambda arrays: self.watch(path.stem, arrays, run(arrays))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results of checks are remembered in a temporary folder, not in that of the user."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["XDG_CACHE_HOME"]
    os.environ.update({} if before is None else {"XDG_CACHE_HOME": before})
