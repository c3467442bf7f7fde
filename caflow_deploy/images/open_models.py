"""Models that were opened by name or folder. The last ones stay open, because opening one takes time."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from threading import Lock

from caflow_deploy.images.image_formats import MAX_IMAGE_PIXELS
from caflow_runtime.backends.select import BackendName
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.checks import checked_path
from caflow_runtime.pipeline.pipeline import Pipeline, load

KEPT = 2
"""Number of models that stay open."""


@dataclass(frozen=True)
class RunOptions:
    """Where a model runs, and what is known of the image."""

    backend: BackendName = "auto"
    """Backend, as in `load`. "auto" is the GPU if ONNX Runtime can use CUDA, else the CPU."""
    threads: int = 0
    """Number of threads on the CPU; 0 is one per core."""
    assume: Mapping[str, float] = field(default_factory=dict)
    """What is known of how the image was degraded, as in `load`. Only models that are told of it use it."""
    max_pixels: int = MAX_IMAGE_PIXELS
    """Largest number of pixels of an image that is read."""


@dataclass
class _OpenModel:
    pipe: Pipeline
    uses: int = 0
    """Number of calls that use the model."""
    is_kept: bool = True
    """Whether the model stays open when no call uses it."""


_models: OrderedDict[object, _OpenModel] = OrderedDict()
_lock = Lock()


@contextmanager
def opened(model: "str | PathLike[str] | Pipeline", run: RunOptions) -> Iterator[Pipeline]:
    """Yield a model, which is opened if it is not open yet. Any number of threads may use it.

    Arguments:
        model: name or folder of a model; or an open pipeline, which is used as it is.

    Raises:
        BundleError, BackendError, InputError: as from `load`.
    """
    if isinstance(model, Pipeline):
        yield model
        return
    folder = find_bundle(checked_path("model", model))
    manifest = folder / MANIFEST
    changed = manifest.stat().st_mtime_ns if manifest.exists() else 0
    key = (folder.absolute(), changed, run.backend, run.threads)
    with _lock:
        one = _models.pop(key, None) or _OpenModel(load(folder, run.backend, run.threads))
        _models[key] = one  # as the last one
        one.uses += 1
        while len(_models) > KEPT:
            _let_go(_models.popitem(last=False)[1])
    try:
        yield one.pipe
    finally:
        with _lock:
            one.uses -= 1
            if not one.uses and not one.is_kept:
                one.pipe.close()


def close_models() -> None:
    """Free all models that were opened by name or folder. One that is in use is freed when its last call ends."""
    with _lock:
        while _models:
            _let_go(_models.popitem()[1])


def _let_go(one: _OpenModel) -> None:
    one.is_kept = False
    if not one.uses:
        one.pipe.close()
