"""The built-in models, by name. They are bundles that can be run, exported or trained further."""

from pathlib import Path

from caflow_runtime.bundle.file_names import MANIFEST

DEFAULT = "x4-photo"
"""Name of the default model: ×4 super-resolution of photographs."""
DEFAULT_FOR_DEGRADED = "x4-real"
"""Name of the default model of `caflow image` for degraded photographs."""
DEFAULT_FOR_VIDEOS = "x2-video"
"""Name of the default model of `caflow video`. Nearly all videos are compressed, and frames are many."""
DEFAULT_FOR_INPUTS = {"mask": "inpaint-photo", "hints": "colour-hints"}
"""Name of the default model of `caflow image` for each input beside the image."""
DESCRIBED = (
    "x4-photo (×4, clean photographs)",
    "x4-real (×4, degraded photographs)",
    "x2-video (×2, compressed videos)",
    "inpaint-photo (removes what a mask marks)",
    "colour-hints (colours grey photographs)",
)
"""Models that are part of an installed package, with their purpose, for help texts."""

_HERE = Path(__file__)
_PLACES = (_HERE.parents[1] / "models", _HERE.parents[3] / "models")
"""Folder of the models in an installed package, and in the source tree."""
MODELS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def names() -> list[str]:
    """Names of the built-in models that have a bundle."""
    return sorted(bundle.stem for bundle in MODELS.glob("*.caflow"))


def matching(beginning: str) -> list[str]:
    """Return names of built-in models and paths of bundles that begin with `beginning`, for shell completion."""
    folder = beginning[: beginning.rfind("/") + 1]
    there = {folder + manifest.parent.name for manifest in Path(folder or ".").glob(f"*/{MANIFEST}")}
    return sorted(name for name in {*names(), *there} if name.startswith(beginning))


def find_bundle(name: str | Path) -> Path:
    """Return the path of a bundle, given its path or the name of a built-in model.

    A bundle at the path `name` takes precedence over a built-in model. If neither exists, the path is returned
    unchanged.
    """
    path = Path(name)
    is_builtin = str(name) in names() and not (path / MANIFEST).is_file()
    return MODELS / f"{name}.caflow" if is_builtin else path
