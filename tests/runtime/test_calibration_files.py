"""Calibration files: one that was changed, belongs to another bundle or contains an impossible number is refused."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny import calibrated_pipe as pipe

from caflow_runtime.ood.calibration import NAME, Calibration, WrongCalibration, read_calibration, write_calibration
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.strict_json import WrongJson, parse_json

__all__ = ["pipe"]  # a fixture


def test_a_calibration_of_another_bundle_is_refused(calibrated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other.caflow"
    shutil.copytree(calibrated, folder)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(WrongCalibration, match=r"made for a different manifest\.json: run caflow calibrate again"):
        load(folder, backend="cpu")
    shutil.copy(calibrated / "manifest.json", manifest)
    load(folder, backend="cpu").close()
    contents: dict[str, Any] = msgspec.json.decode((folder / NAME).read_bytes())
    for change, message in (({"format_version": 1}, "version 2; got"), ({"extra": 1}, "unknown field `extra`")):
        (folder / NAME).write_bytes(msgspec.json.encode(contents | change))
        with pytest.raises(WrongCalibration, match=message):
            load(folder, backend="cpu")
    (folder / NAME).write_bytes(b"{")
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        load(folder, backend="cpu")


Change = tuple[str, Any]


WRONG: list[Change] = [
    ("photographs", 0),
    ("photographs", 10**30),
    ("photographs", 157),  # more photographs than images
    ("samples", "twice"),
    ("samples.0.temperature", None),
    ("samples.0.temperature", -0.5),
    ("samples.0.coloured.images", -104),
    ("truth.temperature", 0.8),
    ("truth.coloured.images", -104),
    ("truth.coloured.images", 0),
    ("truth.coloured.images", 103),  # differs from the number of quantiles
    ("truth.coloured.images", 2.5),
    ("truth.coloured.lowest", []),
    ("truth.coloured.lowest.0", 65),
    ("truth.coloured.lowest.0", 1e308),
    ("truth.coloured.highest.0", 0),  # below lowest
    ("truth.coloured.centre.3", -1),
    ("truth.coloured.centre", [1, 2, 3]),
    ("truth.coloured.scale.0", 0),
    ("truth.coloured.scale.0", -1),
    ("truth.coloured.scale.0", 1e-300),
    ("truth.coloured.mean", []),
    ("truth.coloured.mean.0", [0.0] * 11),
    ("truth.coloured.mean.0.0", 1e300),
    ("truth.coloured.log_spread.0.0", 1000),
    ("truth.coloured.log_spread.0.0", -1000),
    ("truth.coloured.log_spread", [[0.0] * 6]),
    ("truth.coloured.precision", [[1.0]]),
    ("truth.coloured.precision", [[1.0, 0.0], [0.0]]),
    ("truth.coloured.precision", [[1.0, 0.5], [0.0, 1.0]]),  # not symmetric
    ("truth.coloured.precision", [[1.0, 2.0], [2.0, 1.0]]),  # causes negative distances
    ("truth.coloured.precision", [[-1.0, 0.0], [0.0, 1.0]]),
    ("truth.coloured.precision", [[0.0, 0.0], [0.0, 0.0]]),
    ("truth.coloured.groups.0.distances", [1.0]),
    ("truth.coloured.groups.0.distances.0", -1),
    ("truth.coloured.groups.0.distances.5", 0),  # not ascending
    ("truth.coloured.groups.0.images", 103),
    ("truth.coloured.groups.0.sizes", [13.0, 13.0]),
    ("truth.coloured.groups", []),
    ("truth.grey.groups", "twice"),
    ("truth.coloured.precision.0.1", 1e6),
    ("coverage.0.counts", [0, 0]),
    ("coverage.0.quantity", "median"),
    ("truth.coloured.residuals.1.5", 1e3),
    ("truth.coloured.residuals.0.3", None),
    ("truth.coloured.residuals", [[0.0] * 104]),
    ("truth.coloured.bits_per_dim.5", -1e3),
    ("truth.coloured.bits_per_dim_per_level.1.5", 1e3),
    ("canary.log_likelihood", 0),
    ("canary.log_likelihood", 1e300),
]


def changed(contents: Any, path: list[str], value: Any) -> Any:
    """Return a copy of JSON values with another value at a path. The value "twice" doubles a list."""
    if not path:
        return contents * 2 if value == "twice" else value
    key: Any = int(path[0]) if isinstance(contents, list) else path[0]
    copy = contents.copy()
    copy[key] = changed(contents[key], path[1:], value)
    return copy


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_no_number_of_a_calibration_may_be_impossible(calibrated: Path, tmp_path: Path, path: str, value: Any) -> None:
    """Otherwise a negative number of images would change verdicts, and a scale of zero would make them NaN."""
    (tmp_path / "manifest.json").write_bytes((calibrated / "manifest.json").read_bytes())
    contents = msgspec.json.decode((calibrated / NAME).read_bytes())
    (tmp_path / NAME).write_bytes(msgspec.json.encode(contents))
    assert read_calibration(tmp_path)
    text = msgspec.json.encode(changed(contents, path.split("."), value))
    with pytest.raises(WrongJson):
        parse_json(text, Calibration)
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        read_calibration(tmp_path)


@pytest.mark.parametrize(
    "path", ["truth.coloured.mean.0.0", "samples.0.coloured.bits_per_dim.0", "photographs", "canary.log_likelihood"]
)
def test_a_calibration_is_what_was_written(calibrated: Path, tmp_path: Path, path: str) -> None:
    """A changed digit would change verdicts unnoticed, so a calibration contains a hash of its values."""
    (tmp_path / "manifest.json").write_bytes((calibrated / "manifest.json").read_bytes())
    contents: Any = msgspec.json.decode((calibrated / NAME).read_bytes())
    value: Any = contents
    for key in path.split("."):
        value = value[int(key) if isinstance(value, list) else key]
    (tmp_path / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(contents), indent=4))
    assert read_calibration(tmp_path)
    other = value - 1
    (tmp_path / NAME).write_bytes(msgspec.json.encode(changed(contents, path.split("."), other)))
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        read_calibration(tmp_path)


def test_a_calibration_is_of_the_models_levels(calibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((calibrated / "manifest.json").read_bytes())
    contents = msgspec.json.decode((calibrated / NAME).read_bytes())
    for reference in (contents["truth"], *contents["samples"]):
        for kind in (reference["coloured"], reference["grey"]):
            for name in ("mean", "log_spread", "residuals", "bits_per_dim_per_level"):
                kind[name] = kind[name][:1]
            kind["precision"] = [[1.0]]
    write_calibration(tmp_path, msgspec.convert(contents, Calibration))
    wanted = "expected 2 levels and 20 measures, as in the model; got 1 and 1: run caflow calibrate again"
    with pytest.raises(WrongCalibration, match=wanted):
        read_calibration(tmp_path)


def test_what_cannot_be_read_again_is_not_written(pipe: Pipeline, tmp_path: Path) -> None:
    known = pipe.calibration
    write_calibration(tmp_path, known)
    before = (tmp_path / NAME).read_bytes()
    for wrong in (float("nan"), float("inf"), 1e300):
        canary = msgspec.structs.replace(known.canary, log_likelihood=wrong)
        with pytest.raises(WrongCalibration, match="no usable calibration"):
            write_calibration(tmp_path, msgspec.structs.replace(known, canary=canary))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: before}
