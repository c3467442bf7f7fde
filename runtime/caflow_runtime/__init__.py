"""The light runtime, which runs bundles on arrays. It needs neither PyTorch nor Pillow."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` at its first use, because it imports NumPy and OpenCV, which takes time."""
    if name == "load":
        from caflow_runtime.pipeline.pipeline import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
