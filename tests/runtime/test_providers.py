"""The table of execution providers, and plug-ins of ONNX Runtime: they are registered, chosen and refused for real."""

import sys
from pathlib import Path

import pytest
from gpus import openvino_plugin

from caflow_runtime.backends.gpu import has_gpu
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntime, OnnxRuntimeCpu
from caflow_runtime.backends.parity import check_parity
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import PROVIDERS, Provider, SessionNeeds, provider_of
from caflow_runtime.backends.select import may_use_gpu, open_backend, split_device
from caflow_runtime.bundle.engine_model import check_engine_model
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.level_chain import Graph
from caflow_runtime.flow.ports import GraphPorts
from caflow_runtime.pipeline.pipeline import load


@pytest.fixture(scope="module")
def openvino() -> ProviderSessions:
    return openvino_plugin()


def test_a_compiled_graph_is_a_file_with_one_node_that_computes_the_same(
    openvino: ProviderSessions, uncalibrated: Path, tmp_path: Path
) -> None:
    """Providers that keep no engines compile in this way, such as that of TensorRT-RTX."""

    class Compiled(OnnxRuntime):
        def load(self, path: Path, ports: GraphPorts | None = None) -> Graph:
            compiled = tmp_path / path.name
            self.sessions.compile(path, self.sessions.needs(), compiled)
            check_engine_model(compiled.read_bytes())
            return super().load(compiled, ports)

    check_parity(Graphs(uncalibrated, Compiled("compiled", openvino)))
    assert {path.stem for path in tmp_path.iterdir()} >= {"encode", "decode_0", "reverse_1", "likelihood_1"}


def test_a_plugin_without_the_device_names_those_that_it_has(openvino: ProviderSessions, uncalibrated: Path) -> None:
    with pytest.raises(BackendError, match=r"has no device 9 on this machine; its devices are 0: Intel CPU: give the "):
        load(uncalibrated, backend="ort:openvino:9")
    assert openvino.provider.plugin is not None
    with pytest.raises(BackendError, match=r"Absent has no device 0 .* its devices are none: it requires a device"):
        ProviderSessions(Provider("Absent", "nothing", plugin=openvino.provider.plugin))


WITHOUT_A_GPU = pytest.mark.skipif(has_gpu(), reason="this test is for machines without a GPU")


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("ort:webgpu", "pip install 'onnxruntime-ep-webgpu'"),
        ("ort:dml", r"got 'ort:dml'; this ONNX Runtime has .*CPUExecutionProvider"),
        pytest.param("tensorrt-rtx", "the NVIDIA driver (is missing: libcuda|finds no GPU)", marks=WITHOUT_A_GPU),
    ],
)
def test_what_a_backend_lacks_is_named(
    uncalibrated: Path, monkeypatch: pytest.MonkeyPatch, backend: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", None)
    with pytest.raises(BackendError, match=message):
        load(uncalibrated, backend=backend)


@pytest.mark.parametrize("name", ["ort:CPUExecutionProvider", "ort:cpu"])
def test_known_providers_may_be_named_as_plugins(name: str, tmp_path: Path) -> None:
    assert isinstance(open_backend(name, tmp_path), OnnxRuntimeCpu)
    assert provider_of("ort:CUDA", []) is PROVIDERS["cuda"]


def test_the_number_of_a_device_follows_the_name() -> None:
    assert split_device("cuda:1") == ("cuda", 1)
    assert split_device("ort:openvino:2") == ("ort:openvino", 2)
    assert split_device("ort:openvino") == ("ort:openvino", 0)
    for name in ("cpu:1", "openvino:0", "auto:2"):
        with pytest.raises(BackendError, match="has no devices with numbers"):
            split_device(name)
    assert [name for name in ("auto", "cpu", "cuda:1", "tensorrt", "openvino", "ort:cuda") if may_use_gpu(name)] == [
        *("auto", "cuda:1", "tensorrt", "ort:cuda")
    ]


def test_a_library_that_is_no_plugin_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "plugin.so"
    library.write_text("no library")
    (tmp_path / "caflow_no_plugin.py").write_text(
        f"get_ep_name = lambda: 'Broken'\nget_library_path = lambda: {str(library)!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        BackendError, match=r"Broken cannot be loaded \(.*plugin\.so.*pip install --upgrade onnxruntime"
    ):
        ProviderSessions(Provider("Broken", "it", plugin="caflow_no_plugin"))
    sys.modules.pop("caflow_no_plugin")


def test_options_keep_tf32_off_and_have_the_range_of_shapes(tmp_path: Path) -> None:
    """The providers of TensorRT split these texts at commas, colons and the letter x. They have no option for TF32."""
    shapes = {"z": ((1, 12, 2, 2), (4, 12, 64, 96)), "image": ((1,), (4,))}
    needs = SessionNeeds(device=1, cache=tmp_path, shapes=shapes)
    assert PROVIDERS["cuda"].options(needs) == {"device_id": "1", "use_tf32": "0"}
    assert PROVIDERS["tensorrt"].options(needs) == {
        "device_id": "1",
        "trt_profile_min_shapes": "z:1x12x2x2,image:1",
        "trt_profile_opt_shapes": "z:4x12x64x96,image:4",
        "trt_profile_max_shapes": "z:4x12x64x96,image:4",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tmp_path),
    }
    assert PROVIDERS["tensorrt-rtx"].options(needs) == {
        "nv_profile_min_shapes": "z:1x12x2x2,image:1",
        "nv_profile_opt_shapes": "z:4x12x64x96,image:4",
        "nv_profile_max_shapes": "z:4x12x64x96,image:4",
        "nv_runtime_cache_path": str(tmp_path),
    }
