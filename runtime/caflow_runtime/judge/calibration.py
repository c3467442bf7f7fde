"""What is typical of a bundle's model: `calibration.json`, which `caflow calibrate` writes into it."""

from pathlib import Path

import msgspec

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Strict
from caflow_runtime.bundle.reading import read_manifest, sha256_of
from caflow_runtime.bundle.wrong_bundle import BundleError
from caflow_runtime.errors import InputError
from caflow_runtime.flow.latents import STATISTICS
from caflow_runtime.judge.coverage import Coverage
from caflow_runtime.judge.reference import Count, Number, Reference
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.whole_files import remove_leftovers, write_whole

NAME = "calibration.json"
FORMAT = "caflow-calibration"
FORMAT_VERSION = 2
SAME_TEMPERATURE = 1e-6


class WrongCalibration(BundleError):
    """`calibration.json` is not one that this version can use, or belongs to another bundle."""


class Canary(Strict, frozen=True):
    """The log-likelihood of a sample that every backend draws alike."""

    backend: str
    log_likelihood: Number
    """Not 0: differences are relative to it."""

    def __post_init__(self) -> None:
        if not self.log_likelihood:
            raise ValueError("wanted a log_likelihood other than 0")


class Calibration(Strict, frozen=True):
    """`calibration.json`."""

    format: str
    format_version: int
    manifest_sha256: str
    """Of the bundle that it is of."""
    photographs: Count
    truth: Reference
    samples: list[Reference]
    coverage: list[Coverage]
    """How well the spread of samples agrees with the truth; empty where it was not measured."""
    canary: Canary
    sha256: str = ""
    """Of all other fields (`seal`)."""

    def __post_init__(self) -> None:
        temperatures = [reference.temperature for reference in self.samples]
        if self.truth.temperature is not None or None in temperatures or len(set(temperatures)) < len(temperatures):
            raise ValueError(f"wanted truth without a temperature, samples of different ones, got {temperatures}")
        levels = self.truth.levels
        if any((one.levels, one.main.measures) != (levels, levels) for one in self.samples):
            raise ValueError(f"wanted samples of {levels} levels, as truth has, and of no other measures")
        if any(self.photographs > reference.images for reference in (self.truth, *self.samples)):
            raise ValueError(f"wanted at least one image of each of {self.photographs} photographs")

    def reference(self, temperature: float | None) -> Reference:
        """Of samples at a temperature, or of true images.

        Raises:
            InputError: if that temperature was not calibrated.
        """
        if temperature is None:
            return self.truth
        for reference in self.samples:
            assert reference.temperature is not None
            if abs(reference.temperature - temperature) < SAME_TEMPERATURE:
                return reference
        known = ", ".join(f"{reference.temperature:g}" for reference in self.samples)
        raise InputError(
            f"typicality: wanted a temperature that the bundle is calibrated for ({known}), got {temperature:g}: "
            "take one of them, or run caflow calibrate with it"
        )


def read_calibration(folder: Path) -> Calibration | None:
    """That of a bundle; None where it has none.

    Raises:
        WrongCalibration
    """
    path = folder / NAME
    if not path.is_file():
        return None
    again = "run caflow calibrate again"
    try:
        found = read_json(path, Calibration)
    except WrongJson as error:
        raise WrongCalibration(f"{path}: {error}", again) from None
    if (found.format, found.format_version) != (FORMAT, FORMAT_VERSION):
        raise WrongCalibration(
            f"{path}: wanted format {FORMAT!r} version {FORMAT_VERSION}, got {found.format!r} version "
            f"{found.format_version}",
            again,
        )
    if not is_sealed(found):
        raise WrongCalibration(f"{path} is not what was written: its numbers were changed", again)
    if found.manifest_sha256 != sha256_of(folder / MANIFEST):
        raise WrongCalibration(f"{path} was made for another manifest than the one beside it", again)
    model = read_manifest(folder).model
    statistics = len(STATISTICS) * sum(len(channels) for channels in model.noise_channels)
    wanted = (model.levels, model.levels + statistics)
    if (got := (found.truth.levels, found.truth.main.measures)) != wanted:
        raise WrongCalibration(
            f"{path}: wanted {wanted[0]} levels and {wanted[1]} measures, as the model has, got {got[0]} and {got[1]}",
            again,
        )
    return found


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Into a bundle, whole or not at all: what was there before stays until the new one can take its place.

    Raises:
        WrongCalibration: if it could not be read again.
        OSError
    """
    content = msgspec.json.encode(sealed(calibration))
    try:
        msgspec.json.decode(content, type=Calibration)
    except msgspec.ValidationError as error:
        raise WrongCalibration(f"the likelihoods of these images give no usable calibration: {error}") from None
    write_whole(folder / NAME, msgspec.json.format(content, indent=0))
    remove_leftovers([folder / NAME])
