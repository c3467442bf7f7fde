"""Calibrations that the C++ runtime reads and refuses. `tests/runtime/test_calibration_files.py` has Python's tests."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from c_library import WITHOUT_CALIBRATION, CError, CModel
from calibration_cases import EDITED, IMPOSSIBLE, changed

from caflow_runtime.ood.calibration import NAME, Calibration, read_calibration, write_calibration

pytestmark = pytest.mark.usefixtures("built_cpp")


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE + EDITED)
def test_cpp_refuses_the_calibrations_that_python_refuses(copied_calibrated: Path, path: str, value: Any) -> None:
    bundle = copied_calibrated
    (bundle / NAME).write_text(json.dumps(changed(json.loads((bundle / NAME).read_text()), path, value)))
    with pytest.raises(CError, match=rf"{NAME}.*: run caflow calibrate again") as refused:
        CModel(bundle)
    assert refused.value.status == "bundle"
    CModel(bundle, flags=WITHOUT_CALIBRATION).close()


def shortest(text: str) -> float | int:
    """Return a number as other programs may write it: 1 instead of 1.0."""
    number = float(text)
    is_whole = number.is_integer() and 0 < abs(number) < 2**53
    return int(number) if is_whole else number


def test_the_hash_of_a_calibration_does_not_depend_on_how_numbers_are_written(copied_calibrated: Path) -> None:
    """The checksum of a calibration is a hash of its values, not of its text, in both readers."""
    bundle = copied_calibrated
    found: Any = read_calibration(bundle)
    unusual = [1e-5, 1.5e-7, -0.0, 5e-324, 1e16, 1.2345e22, 123456789012345.0, 0.1, 1e30, 2.0]
    coloured = found.truth.coloured
    mean = [[*unusual, *coloured.mean[0][len(unusual) :]], *coloured.mean[1:]]
    truth = msgspec.structs.replace(found.truth, coloured=msgspec.structs.replace(coloured, mean=mean))
    canary = msgspec.structs.replace(found.canary, backend='"\\\n\té €')
    write_calibration(bundle, msgspec.structs.replace(found, truth=truth, canary=canary))
    CModel(bundle).close()
    fields = json.loads((bundle / NAME).read_text(), parse_float=shortest)
    (bundle / NAME).write_text(json.dumps(dict(reversed(fields.items())), indent=2))
    assert isinstance(read_calibration(bundle), Calibration)
    CModel(bundle).close()
