"""Building of engine sets from the graphs of a bundle.

TensorRT builds for the local GPU. TensorRT-RTX builds for any supported compute capability, without a GPU.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import onnx

from caflow_export.engine_targets import Target, choose
from caflow_export.tensorrt_builder import EngineBuilder
from caflow_export.verify_engines import verify_engines
from caflow_runtime.backends.gpu import Gpu, gpu, has_gpu
from caflow_runtime.backends.providers import PROVIDERS
from caflow_runtime.backends.select import open_backend
from caflow_runtime.bundle import engine_sets
from caflow_runtime.bundle.engine_sets import DEFAULT_PROFILE, Engine, EngineSet, Flavor, Profile
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import describe_file, read_manifest, sha256_of, verify_files
from caflow_runtime.errors import BackendError
from caflow_runtime.file_io.atomic_files import atomic_folder

ShowGraphs = Callable[[str, int, int], None]
"""Callback for progress: called with the current action, the number of finished graphs and the number of all graphs."""
Say = Callable[[str], None]


def build_engines(
    folder: Path,
    flavor: Flavor | None = None,
    compute_capabilities: Sequence[str] = (),
    profile: Profile = DEFAULT_PROFILE,
    show: ShowGraphs = lambda *_: None,
    say: Say = lambda _: None,
) -> list[Path]:
    """Build an engine set for each compute capability, with an engine for each graph. Return the sets' folders.

    A set that exists already, with all its files, is kept as it is. A new set for the local GPU is verified.

    Arguments:
        folder: the bundle. Engines have the precision of the bundle.
        flavor: the flavor of TensorRT. By default "rtx" if compute capabilities are named, otherwise the installed
            flavor, or "tensorrt" if both are installed.
        compute_capabilities: compute capabilities to build for, such as "8.6". By default that of the local GPU.
        profile: largest number of items, height and width in one run. Sides are rounded up to what the model requires.
        show: called with the progress.
        say: called with each note for the user.

    Raises:
        BundleError: if the bundle cannot be used.
        TensorRTUnavailable: if TensorRT is not installed or does not support a GPU.
        NeedsGpu: if this machine has no GPU to build for.
        BuildFailed: if TensorRT cannot build an engine. The message names the graph.
        VerificationFailed: if an engine does not compute the same as its graph.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    here = gpu() if has_gpu() else None
    flavor, targets = choose(flavor, compute_capabilities, here)
    profile = engine_sets.fitting(profile, manifest.model)
    found, compiled = [], len(engine_sets.compiled_graphs(manifest))
    for number, target in enumerate(targets):
        before = number * compiled
        one = _Set(folder, flavor, target, profile)
        if one.is_built():
            say(f"{one.folder} is up to date")
        else:
            one.build(lambda name, done, before=before: show(name, before + done, len(targets) * compiled))  # type: ignore[misc]
            if here is not None and here.compute_capability == target[0]:
                one.verify(here, say)
        found.append(one.folder)
    return found


class _Set:
    """An engine set of a bundle, which may not be built yet."""

    def __init__(self, bundle: Path, flavor: Flavor, target: Target, profile: Profile) -> None:
        self.bundle = bundle
        self.manifest = read_manifest(bundle)
        self.builder = EngineBuilder(flavor, target[0])
        self.described = EngineSet(
            manifest_sha256=sha256_of(bundle / MANIFEST),
            flavor=flavor,
            version=self.builder.trt.__version__,
            compute_capability=target[0],
            gpu=target[1],
            precision=self.manifest.precision,
            profile=profile,
            engines=[],
        )
        name = engine_sets.folder_name(flavor, self.described.version, *target, self.manifest.precision)
        self.folder = bundle / engine_sets.FOLDER / name

    def is_built(self) -> bool:
        """Return whether the folder has exactly these engines, undamaged."""
        for found in engine_sets.find(self.bundle):
            if found.folder == self.folder and found.engines is not None and found.stale is None:
                if msgspec.structs.replace(found.engines, engines=[], verification=[]) != self.described:
                    return False
                try:
                    return all(engine_sets.check_engine(self.folder, engine) for engine in found.engines.engines)
                except BackendError:
                    return False
        return False

    def build(self, tell: Callable[[str, int], None]) -> None:
        """Build the engine of each graph. If anything fails, no set is written."""
        with atomic_folder(self.folder) as partial:
            engines = []
            for done, graph in enumerate(engine_sets.compiled_graphs(self.manifest)):
                tell(f"{graph.name} for {self.described.compute_capability}", done)
                shapes = engine_sets.shape_range(graph, self.manifest.model, self.described.profile)
                onnx.save(self.builder.build(self.bundle / graph.file.path, shapes), partial / f"{graph.name}.onnx")
                engines.append(Engine(graph.name, describe_file(partial, f"{graph.name}.onnx")))
            self.described = msgspec.structs.replace(self.described, engines=engines)
            engine_sets.write(partial, self.described)

    def verify(self, here: Gpu, say: Say) -> None:
        """Verify the set on the local GPU with the runtime's own backend, if that is installed.

        Raises:
            VerificationFailed: at the first error that is too large. The set is removed.
        """
        name = next(name for name, provider in PROVIDERS.items() if provider.flavor == self.described.flavor)
        try:
            backend = open_backend(name, self.bundle)
        except BackendError as error:
            say(f"the engines were not verified on this {here.name}: {error}")
            return
        try:
            measured = verify_engines(self.bundle, backend)
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        engine_sets.write(self.folder, msgspec.structs.replace(self.described, verification=measured))
