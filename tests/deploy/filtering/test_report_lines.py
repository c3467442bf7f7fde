"""Files that are no scores: the report names the line, and says what to do."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import caflow, json_lines_of
from report_data import Entry, calibration, entries, scores

from caflow_runtime.errors import InputError
from caflow_runtime.file_io.strict_json import MAX_BYTES_OF_A_LINE
from caflow_runtime.ood.calibration import Calibration, read_calibration
from caflow_runtime.report.html import write_report

__all__ = ["calibration", "entries", "scores"]  # fixtures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits_per_dim": None}, "line 2: the numbers of a pair that was accepted must be finite"),
        ({"image_typicality": float("nan")}, "line 2: numbers must be finite; got NaN"),
        ({"residuals": [0.0] * 3}, "line 2: expected residuals of 2 levels, as the bundle has; got 3"),
        ({"verdict": "perhaps"}, "line 2: Invalid enum value 'perhaps'"),
        ({"image_typicality": 2.0}, "line 2: Expected `float` <= 1.0 - at `$.image_typicality`"),
        ({"image_typicality_per_level": [0.5, -1.0]}, "line 2: Expected `float` >= 0.0 - at"),
        ({"width": 0}, "line 2: Expected `int` >= 1 - at `$.width`"),
        ({"target": 7}, "line 2: Expected `str`, got `int`"),
        ({"target": "x" * MAX_BYTES_OF_A_LINE}, "line 2: a line must have at most"),
    ],
)
def test_invalid_lines_are_refused_by_number(
    calibration: Calibration, entries: list[Entry], scores: Callable[[list[Entry]], Path], change: Entry, message: str
) -> None:
    path = scores([entries[0], entries[1] | {"verdict": "accepted"} | change, entries[2]])
    output = path.with_name("report.html")
    with pytest.raises(InputError, match=re.escape(f"{path}, {message}")):
        write_report(path, calibration, output)
    assert not output.exists()


@pytest.mark.parametrize("change", [{"bits_per_dim": 3.0}, {"verdict": "error"}, {"sha256": ""}, {"note": "mine"}])
def test_an_edited_line_is_refused(
    calibration: Calibration, entries: list[Entry], scores: Callable[[list[Entry]], Path], change: Entry
) -> None:
    """The same contents with another order or spacing are accepted."""
    path = scores(entries[:3])
    lines = json_lines_of(path)
    path.write_text(
        "".join(json.dumps(line, sort_keys=True, indent=None, separators=(",", ":")) + "\n" for line in lines)
    )
    assert write_report(path, calibration, path.with_name("report.html")).counts.total() == 3
    lines[1] |= change
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=re.escape(f"{path}, line 2: ")):
        write_report(path, calibration, path.with_name("report.html"))


def test_files_that_are_no_verdicts_are_refused_in_one_line(
    calibrated: Path, entries: list[Entry], scores: Callable[[list[Entry]], Path]
) -> None:
    path = scores(entries[:3])
    whole = path.read_bytes()
    for contents, message in (
        (b"", f"{path} is empty; expected lines that caflow filter writes"),
        (whole[:-40], f"{path}, line 3: "),
        (whole + b"\xff\xfe\n", f"{path}, line 4: "),
        (b"[1]\n", f"{path}, line 1: Expected `object`, got `array`"),
    ):
        path.write_bytes(contents)
        done = caflow("report", path, "-o", path.with_name("report.html"), "--bundle", calibrated, code=2)
        assert done.stderr.startswith(f"caflow: {message}")
        assert len(done.stderr.splitlines()) == 1
    path.write_bytes(whole)
    path.with_name("job.json").write_text("{")
    calibration = read_calibration(calibrated)
    assert calibration is not None
    with pytest.raises(InputError, match=r"job.json is not a job.json of caflow filter"):
        write_report(path, calibration, path.with_name("report.html"))
    path.with_name("job.json").write_text('{"command": "caflow image", "settings": {}}')
    with pytest.raises(InputError, match=r"belongs to a job of caflow image: give the scores.jsonl of a job of caflow"):
        write_report(path, calibration, path.with_name("report.html"))
