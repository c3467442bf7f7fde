"""caflow-deploy: run CAFLOW models in production. The package imports large libraries only when they are used."""

from typing import TYPE_CHECKING, Any

from caflow_runtime.bundle.builtin import DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

    from caflow_runtime.batching.sampling_config import Reject
    from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["Reject", "load"]
__version__ = "0.1.0"


def load(bundle: "str | Path" = DEFAULT, **settings: Any) -> "Pipeline":
    """Open a bundle, by default the built-in model.

    The arguments are those of `caflow_runtime.pipeline.pipeline.load`.
    """
    from caflow_runtime.pipeline.pipeline import load

    return load(bundle, **settings)


def __getattr__(name: str) -> Any:
    """Import `Reject` at its first use, because its module imports OpenCV, which takes time."""
    if name == "Reject":
        from caflow_runtime.batching.sampling_config import Reject

        return Reject
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
