"""Calibrations that the C++ runtime reads and refuses, as Python does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from c_library import WITHOUT_CALIBRATION, CError, CModel

from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.ood.calibration import NAME, Calibration, read_calibration, write_calibration

Change = Callable[[dict[str, Any]], None]


def at(*path: str | int, value: Any) -> Change:
    def change(fields: dict[str, Any]) -> None:
        inside: Any = fields
        for part in path[:-1]:
            inside = inside[part]
        inside[path[-1]] = value

    return change


KIND = ("truth", "coloured")
WRONG: list[Change] = [
    at("format_version", value=1),
    at("format", value="caflow-calibrations"),
    at("unknown", value=0),
    lambda fields: fields.pop("canary"),
    lambda fields: fields.pop("coverage"),
    lambda fields: fields.pop("sha256"),
    at("manifest_sha256", value="0" * 64),
    at("photographs", value=0),
    at("photographs", value=13.0),
    at("photographs", value=2000),
    at("truth", "temperature", value=0.8),
    at("samples", 0, "temperature", value=None),
    at("samples", 0, "temperature", value=-1.0),
    lambda fields: fields["samples"].append(fields["samples"][0]),
    lambda fields: fields["samples"].append(fields["truth"] | {"temperature": 0.5}),
    lambda fields: fields["truth"].update(coloured=None, grey=None),
    at(*KIND, "lowest", value=[0.0, 0.0, 0.0]),
    at(*KIND, "lowest", value=[64.0, 64.0, 64.0, 64.0]),
    at(*KIND, "lowest", 0, value="0"),
    at(*KIND, "centre", 0, value=65.0),
    at(*KIND, "scale", 0, value=0.0),
    at(*KIND, "mean", 0, 0, value=1e31),
    at(*KIND, "mean", value=[]),
    at(*KIND, "log_spread", value=[]),
    at(*KIND, "log_spread", 0, 0, value=101.0),
    at(*KIND, "images", value=103),
    at(*KIND, "precision", 0, 0, value=-1.0),
    at(*KIND, "precision", 0, 1, value=1e9),
    at(*KIND, "precision", value=[[1.0]]),
    at(*KIND, "groups", value=[]),
    at(*KIND, "groups", 0, "images", value=105),
    at(*KIND, "groups", 0, "sizes", value=[12.0, 12.0]),
    at(*KIND, "groups", 0, "sizes", value=[0.0, 65.0]),
    at(*KIND, "groups", 0, "name", value=None),
    at(*KIND, "groups", 0, "distances", 0, value=1e6),
    at(*KIND, "groups", 0, "distances", 0, value=-1.0),
    at(*KIND, "residuals", value=[]),
    at(*KIND, "residuals", 0, 0, value=True),
    at(*KIND, "bits_per_dim", value=[0.0, 1.0]),
    at(*KIND, "bits_per_dim_per_level", value=[]),
    at("coverage", 0, "level", value=8),
    at("coverage", 0, "quantity", value="median"),
    at("coverage", 0, "counts", value=[0] * 20),
    at("coverage", 0, "counts", value=[1]),
    at("canary", "log_likelihood", value=0.0),
    at("canary", "backend", value=7),
]
UNSEALED: list[Change] = [
    at("canary", "backend", value="another"),
    at("sha256", value="0" * 64),
    lambda fields: fields["samples"].pop(),
    at(*KIND, "mean", 0, 0, value=0.125),
]


@pytest.mark.parametrize("number", range(len(WRONG) + len(UNSEALED)))
def test_wrong_calibrations_are_refused_as_python_refuses_them(
    built_cpp: Path, calibrated: Path, tmp_path: Path, number: int
) -> None:
    change = (WRONG + UNSEALED)[number]
    bundle = Path(shutil.copytree(calibrated, tmp_path / "model.caflow"))
    fields = json.loads((bundle / NAME).read_text())
    change(fields)
    (bundle / NAME).write_text(json.dumps(fields))
    with pytest.raises(BundleError):
        read_calibration(bundle)
    with pytest.raises(CError, match=rf"{NAME}.*: run caflow calibrate again") as refused:
        CModel(built_cpp / "libcaflow.so", bundle, backend=b"cpu")
    assert refused.value.status == "bundle"
    CModel(built_cpp / "libcaflow.so", bundle, backend=b"cpu", flags=WITHOUT_CALIBRATION).close()


def shortest(text: str) -> float | int:
    """Return a number as other programs may write it: 1 instead of 1.0."""
    number = float(text)
    is_whole = number.is_integer() and 0 < abs(number) < 2**53
    return int(number) if is_whole else number


def test_how_numbers_are_written_does_not_matter(built_cpp: Path, calibrated: Path, tmp_path: Path) -> None:
    """The seal of a calibration is a hash of its values, not of its text, in both readers."""
    bundle = Path(shutil.copytree(calibrated, tmp_path / "model.caflow"))
    found = read_calibration(bundle)
    assert found is not None
    unusual = [1e-5, 1.5e-7, -0.0, 5e-324, 1e16, 1.2345e22, 123456789012345.0, 0.1, 1e30, 2.0]
    coloured = found.truth.coloured
    assert coloured is not None
    mean = [[*unusual, *coloured.mean[0][len(unusual) :]], *coloured.mean[1:]]
    truth = msgspec.structs.replace(found.truth, coloured=msgspec.structs.replace(coloured, mean=mean))
    canary = msgspec.structs.replace(found.canary, backend='"\\\n\té €')
    write_calibration(bundle, msgspec.structs.replace(found, truth=truth, canary=canary))
    CModel(built_cpp / "libcaflow.so", bundle, backend=b"cpu").close()
    fields = json.loads((bundle / NAME).read_text(), parse_float=shortest)
    (bundle / NAME).write_text(json.dumps(dict(reversed(fields.items())), indent=2))
    assert isinstance(read_calibration(bundle), Calibration)
    CModel(built_cpp / "libcaflow.so", bundle, backend=b"cpu").close()
