"""Calibration files: one that was changed, belongs to another bundle or contains an impossible number is refused."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from calibration_cases import EDITED, IMPOSSIBLE, changed
from tiny import calibrated_pipe as pipe

from caflow_runtime.file_io.strict_json import WrongJson, parse_json
from caflow_runtime.ood.calibration import NAME, Calibration, WrongCalibration, read_calibration, write_calibration
from caflow_runtime.pipeline.pipeline import Pipeline, load

__all__ = ["pipe"]  # a fixture


def test_a_calibration_of_another_bundle_is_refused(calibrated: Path, copied_calibrated: Path) -> None:
    folder = copied_calibrated
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(WrongCalibration, match=r"made for a different manifest\.json: run caflow calibrate again"):
        load(folder, backend="cpu")
    shutil.copy(calibrated / "manifest.json", manifest)
    load(folder, backend="cpu").close()


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE + EDITED)
def test_a_calibration_with_a_wrong_value_is_refused(calibrated: Path, tmp_path: Path, path: str, value: Any) -> None:
    """Otherwise a negative number of images would change verdicts, and a scale of zero would make them NaN. A changed
    digit would change them unnoticed, so a calibration contains a hash of its values."""
    shutil.copy(calibrated / "manifest.json", tmp_path)
    contents = msgspec.json.decode((calibrated / NAME).read_bytes())
    (tmp_path / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(contents), indent=4))
    assert read_calibration(tmp_path)  # the hash is of the values, not of the text
    text = msgspec.json.encode(changed(contents, path, value))
    if (path, value) in IMPOSSIBLE:
        with pytest.raises(WrongJson):
            parse_json(text, Calibration)
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        read_calibration(tmp_path)


def test_a_calibration_for_another_number_of_levels_is_refused(copied_calibrated: Path) -> None:
    contents = msgspec.json.decode((copied_calibrated / NAME).read_bytes())
    for typicality_model in (contents["truth"], *contents["samples"]):
        for kind in (typicality_model["coloured"], typicality_model["grey"]):
            for name in ("mean", "log_spread", "residuals", "bits_per_dim_per_level"):
                kind[name] = kind[name][:1]
            kind["precision"] = [[1.0]]
    write_calibration(copied_calibrated, msgspec.convert(contents, Calibration))
    with pytest.raises(WrongCalibration, match="expected 2 levels and 20 measures, as in the model; got 1 and 1"):
        read_calibration(copied_calibrated)


def test_a_calibration_that_could_not_be_read_again_is_not_written(pipe: Pipeline, tmp_path: Path) -> None:
    known = pipe.calibration
    write_calibration(tmp_path, known)
    before = (tmp_path / NAME).read_bytes()
    for wrong in (float("nan"), float("inf"), 1e300):
        canary = msgspec.structs.replace(known.canary, log_likelihood=wrong)
        with pytest.raises(WrongCalibration, match="no usable calibration"):
            write_calibration(tmp_path, msgspec.structs.replace(known, canary=canary))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: before}
