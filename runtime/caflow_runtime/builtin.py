"""The models that come with the package, by name: a ready bundle, and the checkpoint that it was exported from."""

from pathlib import Path

DEFAULT = "x4-photo"
"""×4 super-resolution of photographs."""

_HERE = Path(__file__)
_PLACES = (_HERE.parent / "models", _HERE.parents[2] / "models")
"""In an installed package, and in the source tree."""
MODELS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def names() -> list[str]:
    """Names of the built-in models that have a bundle."""
    return sorted(bundle.stem for bundle in MODELS.glob("*.caflow"))


def find_bundle(name: str | Path) -> Path:
    """The path as it is if something is there, or if no built-in bundle has that name."""
    path, builtin = Path(name), MODELS / f"{name}.caflow"
    return path if path.exists() or str(name) not in names() else builtin


def find_checkpoint(name: str | Path) -> Path:
    """The path as it is if something is there, or if no built-in checkpoint has that name."""
    path, builtin = Path(name), MODELS / name / "model.pt"
    return builtin if not path.exists() and path.name == str(name) and builtin.is_file() else path
