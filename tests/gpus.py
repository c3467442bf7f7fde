"""Tests that need a GPU are skipped where there is none: a hook, and a fixture."""

import pytest

from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.backends.onnx_runtime import check_installed
from caflow_runtime.errors import BackendError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if first_gpu() is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


@pytest.fixture(scope="session")
def onnxruntime_cuda() -> None:
    """Skips where ONNX Runtime's package for GPUs is not installed: it cannot be beside the other one."""
    try:
        check_installed("cuda")
    except BackendError as error:
        pytest.skip(str(error))
