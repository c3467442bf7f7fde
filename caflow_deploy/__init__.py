"""caflow-deploy: normalizing flows that translate images, in production.

import caflow_deploy as caflow

result = caflow.enlarge("photo.jpg")
result.save("photo-x4.jpg")

The package imports large libraries only when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caflow_deploy.filtering.calibrate_model import CalibrateOptions, calibrate
    from caflow_deploy.filtering.verdicts import filter_pairs
    from caflow_deploy.images.image_files import read_image
    from caflow_deploy.images.image_result import ImageResult
    from caflow_deploy.images.open_models import RunOptions, close_models
    from caflow_deploy.images.tasks import OutputOptions, colorize, draw, enlarge, inpaint, score
    from caflow_deploy.video.enlarge_video import enlarge_video
    from caflow_deploy.video.video_options import VideoOptions
    from caflow_runtime.batching.draw_options import DrawOptions
    from caflow_runtime.completion.color_hints import Point
    from caflow_runtime.errors import CaflowError, InputError, TooLarge, TooLittleMemory, UnreadableImage
    from caflow_runtime.flow.tiles import Tiling
    from caflow_runtime.pipeline.choice import Untypical
    from caflow_runtime.pipeline.pipeline import load
    from caflow_runtime.sizes import Size

__all__ = [
    "CaflowError",
    "CalibrateOptions",
    "DrawOptions",
    "ImageResult",
    "InputError",
    "OutputOptions",
    "Point",
    "RunOptions",
    "Size",
    "Tiling",
    "TooLarge",
    "TooLittleMemory",
    "UnreadableImage",
    "Untypical",
    "VideoOptions",
    "calibrate",
    "close_models",
    "colorize",
    "draw",
    "enlarge",
    "enlarge_video",
    "filter_pairs",
    "inpaint",
    "load",
    "read_image",
    "score",
]
__version__ = "0.1.0"

_MODULES = {
    "caflow_deploy.filtering.calibrate_model": ["CalibrateOptions", "calibrate"],
    "caflow_deploy.filtering.verdicts": ["filter_pairs"],
    "caflow_deploy.images.image_files": ["read_image"],
    "caflow_deploy.images.image_result": ["ImageResult"],
    "caflow_deploy.images.open_models": ["RunOptions", "close_models"],
    "caflow_deploy.images.tasks": ["OutputOptions", "colorize", "draw", "enlarge", "inpaint", "score"],
    "caflow_deploy.video.enlarge_video": ["enlarge_video"],
    "caflow_deploy.video.video_options": ["VideoOptions"],
    "caflow_runtime.batching.draw_options": ["DrawOptions"],
    "caflow_runtime.completion.color_hints": ["Point"],
    "caflow_runtime.errors": ["CaflowError", "InputError", "TooLarge", "TooLittleMemory", "UnreadableImage"],
    "caflow_runtime.flow.tiles": ["Tiling"],
    "caflow_runtime.pipeline.choice": ["Untypical"],
    "caflow_runtime.pipeline.pipeline": ["load"],
    "caflow_runtime.sizes": ["Size"],
}
"""Public names by the modules that define them."""


def __getattr__(name: str) -> Any:
    """Import the module of a public name at its first use."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, which completion at Python's prompt shows."""
    return sorted(__all__)
