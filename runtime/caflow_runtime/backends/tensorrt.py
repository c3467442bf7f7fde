"""TensorRT as a backend: runs the bundle's engines. Arrays stay on the GPU from the condition to the result.

All engines share the memory for their intermediate results, because they run one after the other. When a chain of
graphs runs with the same shapes a second time, it is recorded as a CUDA graph, and the recording is repeated from then
on. For small images, this is faster: launching the kernels one by one takes longer than running them.
"""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends import cuda_kernels
from caflow_runtime.backends import tensorrt_library as trt_module
from caflow_runtime.backends.backend import Backend, explaining, failure
from caflow_runtime.backends.cuda_device import CudaDevice, Recording, nothing_to_spare
from caflow_runtime.backends.device_array import DeviceArray
from caflow_runtime.backends.tensorrt_engine import EngineGraph
from caflow_runtime.backends.tensorrt_library import logger, strongly_typed
from caflow_runtime.backends.tensorrt_runtime import TensorRTRuntime
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.engine_sets import EngineSet, Profile
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.noise import LevelNoise
from caflow_runtime.flow.scan import Array, Arrays, Graph

RECORDINGS, MOST_SEEN = 8, 1000
"""Largest number of recordings that are kept, and of chains, each with its shapes, that are remembered."""


class TensorRT(Backend):
    """Runs the engine set that was built for this machine's GPU. Device arrays are `DeviceArray`."""

    profiles: Sequence[Profile]
    finds_not_finite = True
    reads_onnx = False

    def __init__(self, device: CudaDevice, folder: Path, set_folder: Path, built: EngineSet) -> None:
        """Open a set of engines on a GPU.

        Arguments:
            folder: folder of the bundle.
            set_folder: folder of the engine set that `built` describes. The device must be able to run it.

        Raises:
            BackendError: if the TensorRT of this engine set is not installed.
        """
        self._build_again = f"caflow-export {folder} --trt {built.precision}"
        # Engines are loaded later, when the working directory may be another one.
        folder, set_folder = folder.absolute(), set_folder.absolute()
        self.runtime = TensorRTRuntime(device, set_folder, built)
        self.device = device
        self.folder, self.set = set_folder, built
        files = {engine.graph: engine.file for engine in built.engines}
        self._files = {folder / graph.file.path: files.get(graph.name) for graph in read_manifest(folder).graphs}
        self.name = self.runtime.name
        self.profiles = self.set.profiles
        self._seen: set[Any] = set()
        """Chains and shapes that have run at least once."""
        self._unrecorded: set[Any] = set()
        """Chains and shapes that are not recorded, because recording failed or because their recording was dropped."""
        self._recordings: OrderedDict[Any, _RecordedChain] = OrderedDict()
        """Recorded chains, the least recently used first."""
        device.spare = self._forget

    @classmethod
    def on_the_gpu(cls, folder: Path) -> "TensorRT":
        """Open the engine set of a bundle that fits this machine's GPU.

        Raises:
            BackendError: if there is no GPU, no engine set for it, or if the set's TensorRT is not installed.
        """
        device, precision = CudaDevice(), read_manifest(folder).precision
        return cls(device, folder, *engines.set_for(folder, precision, device.compute_capability, device.name))

    def load(self, path: Path) -> Graph:
        file = self._files[path]
        if file is None:
            raise BackendError(f"{self.folder} has no engine for {path.name}: {self._build_again}")
        plan = self.folder / file.path
        contents = plan.read_bytes()
        if hashlib.sha256(contents).hexdigest() != file.sha256:
            raise BackendError(
                f"{plan} is damaged, or was built again since the bundle was opened: open the bundle again; if that "
                f"fails, build the engines again: {self._build_again}"
            )
        return self._load(contents, plan)

    def build(self, path: Path) -> Graph:
        trt, flavor = self.runtime.trt, self.set.flavor
        self.device.use()
        builder = trt.Builder(logger(flavor))
        network = builder.create_network(strongly_typed(trt))
        parser = trt.OnnxParser(network, logger(flavor))
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        if flavor == "rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
        if not parser.parse(path.read_bytes()):
            raise BackendError(f"{path}: {self.name} cannot read this graph: {parser.get_error(0).desc()}")
        plan = trt_module.build(flavor, builder, network, config)
        if plan is None:
            raise failure(path, f"{self.name} cannot build this graph: {self.runtime.errors.text()}")
        return self._load(bytes(plan), path)

    def _load(self, contents: bytes, path: Path) -> Graph:
        return EngineGraph(self.runtime, self.runtime.load(contents, path), path)

    def to_device(self, array: NDArray[Any]) -> Array:
        self.device.use()
        return cast(Array, self.device.upload(array))

    def to_host(self, array: Any) -> NDArray[Any]:
        self.device.use()
        return self.device.download(array)

    def row_to_host(self, array: Any, row: int) -> NDArray[Any]:
        self.device.use()
        return self.device.download(self.device.row(array, row))

    def take(self, array: Any, rows: NDArray[np.int64]) -> Array:
        self.device.use()
        return cast(Array, self.device.take(array, rows))

    def adopt(self, array: object) -> Array:
        self.device.use()
        return cast(Array, self.device.adopt(array))

    def draw_noise(self, z: LevelNoise) -> Array:
        self.device.use()
        with explaining(self.name):
            return cast(Array, cuda_kernels.draw_rows(self.device, z))

    def are_finite(self, array: Any) -> NDArray[np.bool_]:
        self.device.use()
        with explaining(self.name):
            return cuda_kernels.are_finite(self.device, array)

    def replay(self, name: str, run: Graph, given: Arrays) -> dict[str, Array]:
        self.device.use()
        arrays = cast(dict[str, DeviceArray], dict(given))
        key = name, *((key, array.shape, array.dtype.str) for key, array in arrays.items())
        with self.runtime.lock, explaining(self.name):
            if key not in self._seen:  # the first run sets up the engines, and may be the only one
                if len(self._seen) == MOST_SEEN:
                    self._seen.clear()
                    self._unrecorded.clear()
                self._seen.add(key)
                return run(given)
            recorded = None if key in self._unrecorded else self._recordings.pop(key, None) or self._record(run, arrays)
            if recorded is not None:
                try:
                    results = recorded.repeat(arrays)
                except MemoryError:
                    pass
                except Exception as error:
                    self._warn_of(error)
                else:
                    self._recordings[key] = recorded
                    self._keep(RECORDINGS)
                    return results
                del recorded  # frees its memory, which the run below needs
            self._unrecorded.add(key)
            return run(given)

    def _record(self, run: Graph, given: dict[str, DeviceArray]) -> "_RecordedChain | None":
        """Record a chain. Return None if it cannot be recorded."""
        contexts = self.runtime.contexts = {}
        try:
            activation = None
            # Run until the activation memory is large enough. These runs also compile kernels.
            while activation is None or activation is not self.runtime.shared:
                activation = self.runtime.shared
                run(cast(Arrays, given))
            with self.device.recording() as recording:
                inputs = {name: self.device.empty(array.shape, array.dtype) for name, array in given.items()}
                outputs = cast(dict[str, DeviceArray], run(cast(Arrays, inputs)))
        except MemoryError:
            return None
        except Exception as error:
            self._warn_of(error)
            return None
        finally:
            self.runtime.contexts = None
            self.device.finish()  # contexts that are not kept are freed next, so no work may still use them
        return _RecordedChain(self.device, recording, contexts, activation, inputs, outputs)

    def _warn_of(self, error: Exception) -> None:
        warnings.warn(f"{self.name} runs without CUDA graphs: {error}", stacklevel=3)

    def _keep(self, most: int) -> None:
        """Drop the least recently used recordings until only `most` remain."""
        while len(self._recordings) > most:
            key, _ = self._recordings.popitem(last=False)
            self._unrecorded.add(key)  # else alternating between many sizes would record each of them again and again

    def _forget(self) -> None:
        """Drop all recordings to free their memory, unless another thread is working.

        Do not wait for the other thread, because it may wait for this one.
        """
        if self.runtime.lock.acquire(blocking=False):
            try:
                self._keep(0)
            finally:
                self.runtime.lock.release()

    def close(self) -> None:
        """Wait for running work, free the memory, and store the compiled kernels if the bundle is writable.

        Raises:
            BackendError: if the GPU reports an error.
        """
        with self.runtime.lock:
            self._forget()
            self.runtime.shared = None
            self.device.use()
            with explaining(self.name):
                self.device.give_back()
            self.device.spare = nothing_to_spare  # else the device and this object keep each other alive
            if self.runtime.kernels is not None:
                self.runtime.kernels.write()


class _RecordedChain:
    """Recorded chain for inputs of certain shapes, with the memory of its inputs and outputs."""

    def __init__(
        self,
        device: CudaDevice,
        recording: Recording,
        contexts: dict[Any, Any],
        activation: Any,
        inputs: dict[str, DeviceArray],
        outputs: dict[str, DeviceArray],
    ) -> None:
        """Keep a recording, and all memory that it uses.

        Arguments:
            contexts, activation: kept alive for the recorded work, which uses them.
        """
        self.device = device
        self.recording = recording
        self.contexts = contexts
        self.activation = activation
        self.inputs = inputs
        self.outputs = outputs

    def __del__(self) -> None:
        with suppress(Exception):  # contexts are freed immediately, not in stream order, so wait for running work
            self.device.finish()

    def repeat(self, given: dict[str, DeviceArray]) -> dict[str, Array]:
        """Run the recorded chain on other arrays of the same shapes. Return its outputs as new arrays."""
        device = self.device
        for name, array in given.items():
            device.copy(array, self.inputs[name])
        self.recording.repeat(device.compute)
        results = {}
        for name, array in self.outputs.items():
            results[name] = device.empty(array.shape, array.dtype)
            device.copy(array, results[name])
        return cast(dict[str, Array], results)
