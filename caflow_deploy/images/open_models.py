"""Models that were opened by name or folder. The last ones stay open, because opening one takes time."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from threading import Lock
from typing import Annotated

from msgspec import Meta

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.masks import MaskMarks
from caflow_runtime.backends import MAX_THREADS
from caflow_runtime.backends.select import BackendName
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.checks import checked_path
from caflow_runtime.degradation import known
from caflow_runtime.errors import InputError
from caflow_runtime.option_fields import Options
from caflow_runtime.pipeline.pipeline import Pipeline, load

KEPT = 2
"""Number of models that stay open."""


class RunOptions(Options, frozen=True):
    """Where a model runs, and what is known of the image."""

    backend: BackendName = "auto"
    """Software that runs the model. auto: cuda if it works here, otherwise cpu. cpu: ONNX Runtime on the CPU; requires
    the extra cpu or gpu. cuda: ONNX Runtime on an NVIDIA GPU; requires the extra gpu. tensorrt: TensorRT in ONNX
    Runtime; requires the extra trt. tensorrt-rtx: TensorRT-RTX in ONNX Runtime; requires the extra rtx. openvino:
    OpenVINO on the CPU; requires the extra openvino. ort:PROVIDER: another execution provider of ONNX Runtime, such as
    ort:dml. The number of a device may follow: cuda:1 is the second GPU. The first time that a backend other than cpu
    runs a model, its results are compared with those of cpu."""
    threads: Annotated[int, Meta(ge=0, le=MAX_THREADS)] = 0
    """Number of CPU threads; 0 is one per core."""
    assume: Mapping[str, float] = {}
    """What is known of how the image was degraded, for models that are told of it, such as x4-real: blur, the standard
    deviation of the blur in pixels of the result; noise, that of the noise in grey levels from 0 to 255; jpeg, the
    quality of the JPEG file, 1 to 100; video, the constant rate factor of H.264. 0 is none, but for jpeg. By default
    the quality of a JPEG file is read from it, and the model estimates the rest."""
    mask_marks: MaskMarks | None = None
    """What marks the pixels to fill in a picture of a mask: white or black ones, or opaque or transparent ones of a
    layer. By default white ones; on a layer with transparent parts, paint of one or two colours, or what was erased
    from a copy of the image. A mask that so marks more than half of the image is refused, because it may be inverted.
    """
    max_pixels: Annotated[int, Meta(ge=1)] = MAX_IMAGE_PIXELS
    """Refuse images with more pixels than this before they are decoded. Reading a file takes 6 to 40 bytes of memory
    per pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known(self.assume)


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
        InputError: if a pipeline is given with a backend or threads, which it has already.
    """
    if isinstance(model, Pipeline):
        default = RunOptions()
        if (run.backend, run.threads) != (default.backend, default.threads):
            raise InputError(
                "the model is open already, so backend and threads of run would have no effect: pass them to load(), "
                "or the model's name to this function"
            )
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
