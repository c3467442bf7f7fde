"""Hook and fixture that skip tests on machines without a GPU."""

import pytest

from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.backends.onnx_runtime import check_installed
from caflow_runtime.errors import BackendError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if first_gpu() is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="requires an NVIDIA GPU"))


@pytest.fixture(scope="session")
def onnxruntime_cuda() -> None:
    """Skip the test if ONNX Runtime's GPU package is not installed. It cannot be installed beside the CPU package."""
    try:
        check_installed("cuda")
    except BackendError as error:
        pytest.skip(str(error))
