"""caflow-deploy: CAFLOW models in production. Importing it loads nothing heavy."""

from typing import TYPE_CHECKING, Any

from caflow_runtime.bundle.builtin import DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

    from caflow_runtime.pipeline.pipeline import Pipeline
    from caflow_runtime.rows.draw import Reject

__all__ = ["Reject", "load"]
__version__ = "0.1.0"


def load(bundle: "str | Path" = DEFAULT, **settings: Any) -> "Pipeline":
    """Open a bundle, or the built-in model: `caflow_runtime.pipeline.pipeline.load`, with its arguments."""
    from caflow_runtime.pipeline.pipeline import load

    return load(bundle, **settings)


def __getattr__(name: str) -> Any:
    """Return `Reject` when somebody asks for it: its module loads OpenCV, which takes a while."""
    if name == "Reject":
        from caflow_runtime.rows.draw import Reject

        return Reject
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
