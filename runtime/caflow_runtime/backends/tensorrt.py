"""Graphs as TensorRT engines of the bundle, on the GPU from the condition to the result.

All engines share one memory for what they compute in between, as one runs after the other. A chain that comes with the
same shapes a second time is recorded as a CUDA graph, and repeated from then on: small images take less time than their
launches one by one.
"""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime import bundle, engines
from caflow_runtime.backends import device_noise
from caflow_runtime.backends.backend import Backend, explaining
from caflow_runtime.backends.cuda_device import CudaDevice, DeviceArray, Recording
from caflow_runtime.backends.engine import Engine, Kernels
from caflow_runtime.engines import EXTRAS, NAMES, EngineSet, Profile
from caflow_runtime.errors import BackendError
from caflow_runtime.noise import Place
from caflow_runtime.scan import Array, Arrays, Graph
from caflow_runtime.trt_module import log, module, strongly_typed

RECORDINGS = 8
"""Chains and shapes that are recorded at the same time."""


class TensorRT(Backend):
    """Runs the set of engines that was built for the GPU here. Device arrays are `DeviceArray`."""

    profiles: Sequence[Profile]

    def __init__(self, device: CudaDevice, folder: Path, set_folder: Path, built: EngineSet) -> None:
        """Arguments:
            folder: of the bundle.
            set_folder: of a set of its engines, described by `built`, that the device runs.

        Raises:
            BackendError: if its TensorRT is not installed.
        """
        flavor = built.flavor
        try:
            self.trt = module(flavor)
        except ImportError as error:
            raise BackendError(
                f"{NAMES[flavor]} does not load ({error}): pip install 'caflow-deploy[{EXTRAS[flavor]}]'"
            ) from None
        self.device = device
        self.folder, self.set = set_folder, built
        files = {engine.graph: engine.file for engine in built.engines}
        self._plans = {folder / graph.file.path: files[graph.name] for graph in bundle.read_manifest(folder).graphs}
        self.log = log(flavor)
        self.name = f"{NAMES[flavor].lower()} {self.set.precision} on {self.device.name}"
        self.profiles = self.set.profiles
        self.lock = RLock()
        """Held while the stream is given work, as contexts and the activation memory are everybody's."""
        self.shapes_return = False
        """Whether what runs now will run often with its shapes, so that kernels for just these are worth their wait."""
        self.kernels = Kernels(self.trt, set_folder) if flavor == "rtx" else None
        self._runtime = self.trt.Runtime(self.log)
        self._activation: Any = None
        self._seen: set[Any] = set()
        self._unrecorded: set[Any] = set()
        """Chains and shapes that cannot be recorded, or only with memory that there is not."""
        self._recordings: OrderedDict[Any, _RecordedChain] = OrderedDict()
        device.spare = self._forget

    @classmethod
    def on_the_gpu(cls, folder: Path) -> "TensorRT":
        """With the set of a bundle that fits the GPU here.

        Raises:
            BackendError: if there is no GPU, no set for it, or its TensorRT is not installed.
        """
        device, precision = CudaDevice(), bundle.read_manifest(folder).precision
        return cls(device, folder, *engines.choose(folder, precision, device.compute_capability, device.name))

    def load(self, path: Path) -> Graph:
        plan = self.folder / self._plans[path].path
        contents = plan.read_bytes()
        if hashlib.sha256(contents).hexdigest() != self._plans[path].sha256:
            raise BackendError(f"{plan} is not what was built: caflow-export {path.parent} --trt {self.set.precision}")
        return self._load(contents, plan)

    def build(self, path: Path) -> Graph:
        trt = self.trt
        builder = trt.Builder(self.log)
        network = builder.create_network(strongly_typed(trt))
        if not trt.OnnxParser(network, self.log).parse(path.read_bytes()):
            raise BackendError(f"{path}: {self.name} cannot read it: {self.log.first_error()}")
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        self.device.use()
        return self._load(bytes(builder.build_serialized_network(network, config)), path)

    def _load(self, contents: bytes, path: Path) -> Graph:
        self.device.use()
        self.log.errors.clear()
        engine = self._runtime.deserialize_cuda_engine(contents)
        if engine is None:
            raise BackendError(f"{path}: {self.name} cannot load it: {self.log.first_error()}")
        return Engine(self, engine, path)

    def to_device(self, array: NDArray[Any]) -> Array:
        self.device.use()
        return cast(Array, self.device.upload(array))

    def to_host(self, array: Any) -> NDArray[Any]:
        self.device.use()
        return self.device.download(array)

    def take(self, array: Any, rows: NDArray[np.int64]) -> Array:
        self.device.use()
        return cast(Array, self.device.take(array, rows))

    def adopt(self, array: object) -> Array:
        self.device.use()
        return cast(Array, self.device.adopt(array))

    def draw_noise(
        self,
        channels: Sequence[int],
        level: int,
        places: Sequence[Place],
        temperatures: Sequence[float],
        seed: int,
        frame: int,
    ) -> Array:
        self.device.use()
        with explaining(self.name):
            drawn = device_noise.draw_rows(self.device, channels, level, places, temperatures, seed, frame)
            return cast(Array, drawn)

    def replay(self, name: str, run: Graph, given: Arrays) -> dict[str, Array]:
        self.device.use()
        arrays = cast(dict[str, DeviceArray], dict(given))
        key = name, *((key, array.shape, array.dtype.str) for key, array in arrays.items())
        with self.lock, explaining(self.name):
            if key not in self._seen:  # whoever comes once is not worth it, and the first run sets up the engines
                self._seen.add(key)
                return run(given)
            recorded = None if key in self._unrecorded else self._recordings.pop(key, None) or self._record(run, arrays)
            if recorded is not None:
                with suppress(MemoryError):
                    results = recorded.repeat(self.device, arrays)
                    self._recordings[key] = recorded
                    while len(self._recordings) > RECORDINGS:
                        self._recordings.popitem(last=False)
                    return results
            del recorded
            self._unrecorded.add(key)
            return run(given)

    def _record(self, run: Graph, given: dict[str, DeviceArray]) -> "_RecordedChain | None":
        """A chain, recorded; None where it cannot be."""
        self.shapes_return = True
        try:
            run(cast(Arrays, given))  # compiles and allocates, which cannot be done while recording
            with self.device.recording() as recording:
                inputs = {name: self.device.empty(array.shape, array.dtype) for name, array in given.items()}
                outputs = cast(dict[str, DeviceArray], run(cast(Arrays, inputs)))
                recording.buffers.append(self._activation)
        except MemoryError:
            return None
        except Exception as error:
            warnings.warn(f"{self.name} runs without CUDA graphs: {error}", stacklevel=2)
            return None
        finally:
            self.shapes_return = False
        return _RecordedChain(recording, inputs, outputs)

    def _forget(self) -> None:
        """What is recorded, and its memory."""
        with self.lock:
            self._recordings.clear()

    def close(self) -> None:
        """Keep what was compiled, where the bundle can be written to."""
        with self.lock:
            self._forget()
            if self.kernels is not None:
                self.device.use()
                self.kernels.write()

    def activation(self, size: int) -> Any:
        """The memory that all engines share, of at least so many bytes; with the lock held.

        Raises:
            MemoryError
        """
        if self._activation is None or self._activation.size < size:
            self._activation = None  # a recording that uses it keeps it; else its memory is free for the new one
            self._activation = self.device.allocate(max(1, size))
        return self._activation


class _RecordedChain:
    """A chain for arrays of some shapes, with memory for what goes in and what comes out."""

    def __init__(self, recording: Recording, inputs: dict[str, DeviceArray], outputs: dict[str, DeviceArray]) -> None:
        self.recording = recording
        self.inputs = inputs
        self.outputs = outputs

    def repeat(self, device: CudaDevice, given: dict[str, DeviceArray]) -> dict[str, Array]:
        """What the chain gives for other arrays, in memory of its own."""
        for name, array in given.items():
            device.copy(array, self.inputs[name])
        self.recording.repeat(device.compute)
        results = {}
        for name, array in self.outputs.items():
            results[name] = device.empty(array.shape, array.dtype)
            device.copy(array, results[name])
        return cast(dict[str, Array], results)
