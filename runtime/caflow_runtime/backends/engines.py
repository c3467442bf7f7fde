"""Engines of a bundle for one machine: the finished ones in the bundle, or those that are built when first needed."""

import os
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from caflow_runtime.backends.cache_folders import engine_cache
from caflow_runtime.backends.gpu import Gpu
from caflow_runtime.backends.onnx_packages import import_onnxruntime
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import SessionNeeds
from caflow_runtime.bundle import engine_sets
from caflow_runtime.bundle.engine_sets import DEFAULT_PROFILE, NAMES, Flavor, Machine
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import read_manifest, sha256_of
from caflow_runtime.errors import BackendError

RTX_LIBRARY = "libtensorrt_rtx.so."
HASH_DIGITS = 16
"""Digits of the manifest's hash in the name of a cache."""


class Engines:
    """Files that a provider of TensorRT loads in place of the graphs of a bundle, and their range of sizes."""

    def __init__(self, folder: Path, sessions: ProviderSessions, machine: Machine) -> None:
        """Choose the finished engines of a bundle, if there are any for a machine.

        Raises:
            BackendError: if the bundle has finished engines of this flavor, but none for this machine.
        """
        self._bundle = folder.absolute()  # engines are loaded later, when the working directory may be another one
        self._manifest = read_manifest(folder)
        self._sessions = sessions
        self._machine = machine
        self._finished = engine_sets.set_for(self._bundle, self._machine)
        model = self._manifest.model
        self.profile = self._finished[1].profile if self._finished else engine_sets.fitting(DEFAULT_PROFILE, model)
        self._graphs = {self._bundle / graph.file.path: graph for graph in self._manifest.graphs}

    @property
    def are_finished(self) -> bool:
        """Whether the bundle contains the engines."""
        return self._finished is not None

    @property
    def identity(self) -> Mapping[str, str]:
        """What tells these engines from others."""
        set_folder = None if self._finished is None else self._finished[0]
        return {"engines": "built here" if set_folder is None else sha256_of(set_folder / engine_sets.DESCRIPTION)}

    def file_for(self, path: Path) -> tuple[Path, SessionNeeds]:
        """Return the file to load in place of an ONNX file, and what its session needs. It may be compiled first.

        Raises:
            BackendError: if the engine is missing or damaged.
        """
        graph = self._graphs.get(path)
        if graph is None:  # not part of the bundle
            return path, self._sessions.needs()
        if self._finished is not None:
            folder, engines = self._finished
            for engine in engines.engines:
                if engine.graph == graph.name:
                    return engine_sets.check_engine(folder, engine), self._sessions.needs()
            raise BackendError(f"{folder} has no engine for {graph.name}", "build it again: caflow-export --trt")
        shapes = engine_sets.shape_range(graph, self._manifest.model, self.profile)
        needs = self._sessions.needs(cache=self._cache, shapes=shapes)
        if self._sessions.provider.keeps_engines:
            return path, needs
        compiled = self._cache / f"{graph.name}.onnx"
        if not compiled.is_file():
            partial = compiled.with_suffix(f".{os.getpid()}.onnx")
            self._sessions.compile(path, needs, partial)
            partial.replace(compiled)
        return compiled, needs

    @cached_property
    def _cache(self) -> Path:
        """Folder for engines that are built here. Its name has everything that they depend on."""
        machine, precision = self._machine, self._manifest.precision
        name = engine_sets.folder_name(
            machine.flavor, machine.version, machine.compute_capability, machine.gpu, precision
        )
        runtime, manifest = import_onnxruntime().__version__, sha256_of(self._bundle / MANIFEST)[:HASH_DIGITS]
        cache = engine_cache(self._bundle, f"{name}-onnxruntime-{runtime}-{manifest}")
        if not any(cache.iterdir()):
            warnings.warn(
                f"{NAMES[machine.flavor]} builds engines for this {machine.gpu} when they are first needed, which "
                f"takes minutes; they are kept in {cache}",
                stacklevel=2,
            )
        return cache


def machine_of(sessions: ProviderSessions, flavor: Flavor, gpu: Gpu) -> Machine:
    """Return the GPU of a provider, and the version of the TensorRT library that the provider loads.

    Raises:
        BackendError: if the version is not known.
    """
    if flavor == "tensorrt":
        return Machine(flavor, sessions.libraries.__version__, gpu.compute_capability, gpu.name)  # type: ignore[union-attr]
    library = Path(sessions.plugin.get_library_path())  # type: ignore[union-attr]
    versions = [file.name.removeprefix(RTX_LIBRARY) for file in library.parent.glob(f"{RTX_LIBRARY}*")]
    if not versions:
        raise BackendError(f"{library.parent} has no {RTX_LIBRARY}*, so the version of TensorRT-RTX is not known")
    return Machine(flavor, max(versions, key=len), gpu.compute_capability, gpu.name)
