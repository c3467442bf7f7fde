"""The models that come with the package, by name: bundles, ready to run and to be exported or trained further."""

from pathlib import Path

from caflow_runtime.bundle.file_names import MANIFEST

DEFAULT = "x4-photo"
"""×4 super-resolution of photographs."""

_HERE = Path(__file__)
_PLACES = (_HERE.parents[1] / "models", _HERE.parents[3] / "models")
"""In an installed package, and in the source tree."""
MODELS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def names() -> list[str]:
    """Names of the built-in models that have a bundle."""
    return sorted(bundle.stem for bundle in MODELS.glob("*.caflow"))


def matching(beginning: str) -> list[str]:
    """Names of built-in models, and paths of bundles, that begin so: what a shell completes it to."""
    folder = beginning[: beginning.rfind("/") + 1]
    there = {folder + manifest.parent.name for manifest in Path(folder or ".").glob(f"*/{MANIFEST}")}
    return sorted(name for name in {*names(), *there} if name.startswith(beginning))


def find_bundle(name: str | Path) -> Path:
    """The built-in bundle of that name, unless a bundle is at that path; the path as it is where there is neither."""
    path = Path(name)
    is_builtin = str(name) in names() and not (path / MANIFEST).is_file()
    return MODELS / f"{name}.caflow" if is_builtin else path
