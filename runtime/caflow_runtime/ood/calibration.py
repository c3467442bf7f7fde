"""The calibration of a bundle: `calibration.json`, which `caflow calibrate` writes into the bundle's folder."""

from pathlib import Path

import msgspec

from caflow_runtime.bundle.builtin import MODELS
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Strict
from caflow_runtime.bundle.reading import read_manifest, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import remove_leftovers, write_atomically
from caflow_runtime.file_io.line_checksum import has_valid_checksum, with_checksum
from caflow_runtime.file_io.strict_json import WrongJson, read_json
from caflow_runtime.flow.latent_statistics import STATISTICS
from caflow_runtime.ood.coverage import Coverage
from caflow_runtime.ood.typicality_records import Count, Number, TypicalityModel

NAME = "calibration.json"
FORMAT = "caflow-calibration"
FORMAT_VERSION = 2
SAME_TEMPERATURE = 1e-6


class WrongCalibration(BundleError):
    """`calibration.json` is damaged, has an unsupported version, or belongs to another bundle."""


class Canary(Strict, frozen=True):
    """One fixed sample, which is the same on every backend up to rounding.

    If its log-likelihood changes later, the backend no longer computes the same function.
    """

    backend: str
    log_likelihood: Number
    """Log-likelihood of the sample at calibration, in nats. It must not be 0, because relative differences are
    reported."""

    def __post_init__(self) -> None:
        if not self.log_likelihood:
            raise ValueError("log_likelihood must not be 0")


class Calibration(Strict, frozen=True):
    """Contents of `calibration.json`."""

    format: str
    format_version: int
    manifest_sha256: str
    """SHA-256 of the manifest of the calibrated bundle."""
    photographs: Count
    """Number of photographs that the images of `truth` are crops of."""
    truth: TypicalityModel
    """Distribution of true images."""
    samples: list[TypicalityModel]
    """Distributions of samples, one for each calibrated temperature."""
    coverage: list[Coverage]
    """Ranks of true images among samples; empty if they were not measured."""
    canary: Canary
    sha256: str = ""
    """Hash of all other fields (`line_checksum.py`)."""

    def __post_init__(self) -> None:
        temperatures = [typicality_model.temperature for typicality_model in self.samples]
        if self.truth.temperature is not None or None in temperatures or len(set(temperatures)) < len(temperatures):
            raise ValueError(
                f"truth must have no temperature, and samples must have different temperatures; got "
                f"{self.truth.temperature} and {temperatures}"
            )
        levels = self.truth.levels
        if any((one.levels, one.main.measures) != (levels, levels) for one in self.samples):
            raise ValueError(f"samples must have {levels} levels, as truth has, and {levels} measures")
        if any(self.photographs > typicality_model.images for typicality_model in (self.truth, *self.samples)):
            raise ValueError(
                f"every typicality model must have at least {self.photographs} images, one for each photograph"
            )

    def typicality_model(self, temperature: float | None) -> TypicalityModel:
        """Return the distribution of samples at a temperature, or of true images if `temperature` is None.

        Raises:
            InputError: if the calibration has no such temperature.
        """
        if temperature is None:
            return self.truth
        for typicality_model in self.samples:
            assert typicality_model.temperature is not None
            if abs(typicality_model.temperature - temperature) < SAME_TEMPERATURE:
                return typicality_model
        known = ", ".join(f"{typicality_model.temperature:g}" for typicality_model in self.samples)
        raise InputError(
            f"typicality: the bundle is calibrated for the temperatures {known}; got {temperature:g}: use one of them, "
            "or run caflow calibrate with this temperature"
        )


def read_calibration(folder: Path) -> Calibration | None:
    """Return the calibration of the bundle in `folder`, or None if the bundle has no calibration.

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
            f"{path}: expected format {FORMAT!r} version {FORMAT_VERSION}; got {found.format!r} version "
            f"{found.format_version}",
            again,
        )
    if not has_valid_checksum(found):
        raise WrongCalibration(f"{path} is damaged: its contents do not match its own hash", again)
    if found.manifest_sha256 != sha256_of(folder / MANIFEST):
        raise WrongCalibration(f"{path} belongs to another bundle: it was made for a different {MANIFEST}", again)
    model = read_manifest(folder).model
    statistics = len(STATISTICS) * sum(len(channels) for channels in model.noise_channels)
    wanted = (model.levels, model.levels + statistics)
    if (got := (found.truth.levels, found.truth.main.measures)) != wanted:
        raise WrongCalibration(
            f"{path}: expected {wanted[0]} levels and {wanted[1]} measures, as in the model; got {got[0]} and {got[1]}",
            again,
        )
    return found


def why_missing(folder: Path) -> tuple[str, str]:
    """Return why the bundle in `folder` has no calibration, and what to do."""
    if folder.resolve().parent == MODELS.resolve():
        why = "because typicality does not tell its good results from bad ones"
        return f"{folder.stem} is not calibrated, {why}", "judge them by eye"
    return f"{folder} is not calibrated", f"run caflow calibrate {folder} --data PHOTOGRAPHS"


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write the calibration into a bundle. An existing calibration is replaced only when the new file is complete.

    Raises:
        WrongCalibration: if the calibration could not be read again.
        OSError: if a file cannot be read or written.
    """
    content = msgspec.json.encode(with_checksum(calibration))
    try:
        msgspec.json.decode(content, type=Calibration)
    except msgspec.ValidationError as error:
        raise WrongCalibration(f"the likelihoods of these images give no usable calibration: {error}") from None
    write_atomically(folder / NAME, content)
    remove_leftovers([folder / NAME])
