"""The report about scored pairs, for real lines of a small bundle, and for files that are no scores."""

import json
import re
import tracemalloc
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from commands import caflow, json_lines_of
from scipy import stats
from tiny import pairs_of_photographs

from caflow_deploy.filtering.report import most_by_chance, write_report
from caflow_deploy.filtering.report_summary import ACCEPTED, UNTYPICAL, Summary, read_lines
from caflow_deploy.filtering.verdicts import verdicts_of
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.pairs import FilePair
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.line_checksum import with_checksum
from caflow_runtime.file_io.strict_json import MAX_BYTES_OF_A_LINE
from caflow_runtime.ood.calibration import Calibration, read_calibration
from caflow_runtime.ood.drift import MIN_VALUES, Drift
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import load

ALPHA = 0.1
Entry = dict[str, Any]
Write = Callable[[list[Entry]], Path]


@pytest.fixture(scope="session")
def entries(calibrated: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Lines about crops of photographs, and about two targets of noise."""
    folder = tmp_path_factory.mktemp("pairs")
    with load(calibrated) as pipe:
        images = [(pair.target, pair.condition) for pair in pairs_of_photographs(pipe, photographs, each=3)]
        noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        images += [(target, images[0][1]) for target in noise]
        pairs = [FilePair(str(folder / f"{k}.png"), str(folder / f"{k}-small.png")) for k in range(len(images))]
        for paths, pictures in zip(pairs, images, strict=True):
            for path, picture in zip(paths, pictures, strict=True):
                write_image(Path(path), picture)
        return [msgspec.to_builtins(verdict) for verdict in verdicts_of(pipe, pairs, ALPHA)]


@pytest.fixture
def calibration(calibrated: Path) -> Calibration:
    found = read_calibration(calibrated)
    assert found is not None
    return found


def line_of(entry: Entry) -> str:
    """Return a line as caflow filter writes it. The values may be wrong; then its checksum is, too."""
    try:
        sha256 = with_checksum(msgspec.convert(entry, Verdict)).sha256
    except msgspec.ValidationError:
        sha256 = "0"
    return json.dumps(entry | {"sha256": sha256}) + "\n"


@pytest.fixture
def scores(tmp_path: Path) -> Write:
    """Return a function that writes lines to a file, with the `job.json` beside it."""

    def write(entries: list[Entry]) -> Path:
        path = tmp_path / "scores.jsonl"
        path.write_text("".join(map(line_of, entries)))
        (tmp_path / "job.json").write_text(json.dumps({"settings": {"min_typicality": ALPHA, "precision": "fp32"}}))
        return path

    return write


HOSTILE = "<script>alert(1)</script>&\"'{{ 7 * 7 }}.png"
VOID = ("meta", "img", "br")
"""Elements that have no end."""


class Page(HTMLParser):
    """Text, tags and addresses of a page. An element that is not closed fails the test."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.text = ""
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


Report = Callable[..., Page]


@pytest.fixture
def report_of(calibration: Calibration, scores: Write) -> Report:
    """Return a function that reports about lines, with another `job.json` if one is given."""

    def write(entries: list[Entry], job: dict[str, Any] | None = None) -> Page:
        path = scores(entries)
        if job is not None:
            path.with_name("job.json").write_text(json.dumps(job))
        write_report(path, calibration, path.with_name("report.html"))
        return Page(path.with_name("report.html"))

    return write


def error_of(name: str, why: str = "cannot be read") -> Entry:
    typicality = ("image_typicality", "image_typicality_per_level", "residuals")
    likelihood = ("log_likelihood", "log_likelihood_per_level", "bits_per_dim", "width", "height")
    nothing = dict.fromkeys(typicality + likelihood)
    return nothing | {"target": name, "condition": name, "verdict": "error", "reason": f"{name}: {why}"}


def test_a_report_shows_counts_the_least_typical_pairs_and_drift(
    calibrated: Path, calibration: Calibration, entries: list[Entry], scores: Write
) -> None:
    path = scores([*entries, error_of("broken.png")])
    output = path.with_name("report.html")
    given = ["report", path, "--model", calibrated]
    done = caflow(*given, code=0)
    rejected = [entry for entry in entries if entry["verdict"] == "rejected"]
    accepted = len(entries) - len(rejected)
    assert done.stdout == f"{path} → {output}  {accepted} accepted, {len(rejected)} rejected, 1 error\n"
    page = Page(output)
    assert f"Typicality of {len(entries)} pairs" in page.text
    assert f"{100 * len(rejected) / len(entries):.1f} %" in page.text
    assert "α = 0.1: about 10 % of real photographs are rejected by mistake" in page.text
    assert page.text.count("broken.png") == 1
    assert page.tags.count("svg") == 8  # bits/dim, typicality, two levels, and the coverage of two levels
    # The least typical pairs are shown, the least typical first, each with both images.
    ranked = sorted(entries, key=lambda entry: (entry["image_typicality"], -max(map(abs, entry["residuals"]))))
    places = [page.text.index(entry["target"]) for entry in ranked[:UNTYPICAL]]
    assert places == sorted(places)
    assert all(entry["reason"] in page.text for entry in rejected)
    assert page.tags.count("img") == 2 * (UNTYPICAL + ACCEPTED)
    drift = Drift(calibration.photographs)
    drift.add([entry["image_typicality"] for entry in entries])
    assert f"{drift.distance:.3f}" in page.text
    assert f"{drift.p_value:.2g}" in page.text
    again = caflow(*given, code=2)
    assert f"{output} already exists" in again.stderr
    lines = path.read_text()
    refused = caflow("report", path, "-o", path, "--model", calibrated, "--force")
    assert f"{path} is the input file" in refused.stderr
    assert path.read_text() == lines


def test_few_pairs_raise_no_alarm(entries: list[Entry], report_of: Report) -> None:
    """From MIN_VALUES judged pairs on, a list is compared as a whole. A single rejected pair is no alarm."""
    for count in (1, MIN_VALUES - 1, MIN_VALUES):
        text = report_of([entry | {"verdict": "accepted"} for entry in entries[1:count]] + [entries[-1]]).text
        assert ("Drift" in text) == ("chance alone leads" in text) == (count == MIN_VALUES)
        assert (f"Fewer than {MIN_VALUES} pairs" in text) == (count < MIN_VALUES)
        assert "In this list more are rejected" not in text


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.9])
@pytest.mark.parametrize("count", [2, 3, 6, 20, 1000, 30_000])
def test_the_limit_of_rejections_by_chance_is_exact(alpha: float, count: int) -> None:
    """The limit is exact for lists of any length: chance alone exceeds it in at most 1 of 100 lists."""
    by_chance = stats.betabinom(count, 306 * alpha, 306 * (1 - alpha))
    assert most_by_chance(alpha, count, 306) == by_chance.ppf(0.99)
    assert most_by_chance(0.01, 1, 306) == 1


def test_a_report_loads_nothing_from_elsewhere(entries: list[Entry], report_of: Report) -> None:
    page = report_of(entries)
    assert page.addresses
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)
    assert "http" not in page.source
    assert "@import" not in page.source
    assert "script" not in page.tags
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page.source))


def test_names_of_files_are_shown_as_text_and_not_as_html(entries: list[Entry], report_of: Report) -> None:
    undecodable = r"caf\xe9.png"  # how caflow filter writes a name that is not UTF-8
    marked = [entry | {"target": HOSTILE, "condition": undecodable, "reason": HOSTILE} for entry in entries[:3]]
    page = report_of([*marked, error_of(HOSTILE, "<img src=x onerror=alert(1)>")])
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(HOSTILE) == 2 * 3 + 1
    assert page.text.count("cannot be read") == 2 * 3
    assert r"caf\xe9.png" in page.text


def test_memory_does_not_grow_with_the_lines(calibration: Calibration, entries: list[Entry], tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for k in range(count):
                entry = entries[k % len(entries)]
                file.write(line_of(entry | {"target": f"{k}.png", "verdict": "accepted"}))
        tracemalloc.start()
        summary = Summary(calibration)
        for line in read_lines(path, 2):
            summary.add(line)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert summary.scored == summary.bits_per_dim.counts.sum() == summary.typicality.counts.sum() == count
        assert len(summary.untypical) == UNTYPICAL
        assert len(summary.typical) == ACCEPTED
        return most

    assert peak(4000) - peak(400) < 2**16  # less than 20 bytes for each further line


def test_scores_of_another_bundle_or_job_are_refused(
    calibration: Calibration, entries: list[Entry], report_of: Report
) -> None:
    with pytest.raises(InputError, match=r"belongs to a job of caflow image"):
        report_of(entries, {"command": "caflow image", "settings": {}})
    with pytest.raises(InputError, match=r"belongs to another bundle: use the same `model` as for caflow filter"):
        report_of(entries, {"settings": {"min_typicality": ALPHA, "bundle": "0" * 64}})
    job = {"settings": {"min_typicality": ALPHA, "bundle": calibration.manifest_sha256}}
    assert "α = 0.1" in report_of(entries, job).text


def test_pairs_that_are_not_judged_are_counted(calibrated: Path, entries: list[Entry], scores: Write) -> None:
    unknown = dict.fromkeys(("image_typicality", "image_typicality_per_level", "residuals"))
    path = scores([entries[0] | unknown | {"verdict": "unjudged", "reason": "unlike the calibration"}])
    output = path.with_name("report.html")
    done = caflow("report", path, "-o", output, "--model", calibrated)
    assert done.stdout == f"{path} → {output}  0 accepted, 0 rejected, 1 unjudged, 0 errors\n"
    text = Page(output).text
    assert "of real photographs are rejected by mistake." in text
    assert "chance alone" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits_per_dim": None}, "line 2: the numbers of a pair that was accepted must be finite"),
        ({"image_typicality": float("nan")}, "line 2: numbers must be finite; got NaN"),
        ({"residuals": [0.0] * 3}, "line 2: expected residuals of 2 levels, as the bundle has; got 3"),
        ({"verdict": "perhaps"}, "line 2: Invalid enum value 'perhaps'"),
        ({"image_typicality": 2.0}, "line 2: Expected `float` <= 1.0 - at `$.image_typicality`"),
        ({"target": "x" * MAX_BYTES_OF_A_LINE}, "line 2: a line must have at most"),
    ],
)
def test_invalid_lines_are_refused_by_number(
    calibration: Calibration, entries: list[Entry], scores: Write, change: Entry, message: str
) -> None:
    path = scores([entries[0], entries[1] | {"verdict": "accepted"} | change, entries[2]])
    output = path.with_name("report.html")
    with pytest.raises(InputError, match=re.escape(f"{path}, {message}")):
        write_report(path, calibration, output)
    assert not output.exists()


@pytest.mark.parametrize("change", [{"bits_per_dim": 3.0}, {"verdict": "error"}, {"sha256": ""}, {"note": "mine"}])
def test_an_edited_line_is_refused(
    calibration: Calibration, entries: list[Entry], scores: Write, change: Entry
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
    calibrated: Path, calibration: Calibration, entries: list[Entry], scores: Write
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
        done = caflow("report", path, "-o", path.with_name("report.html"), "--model", calibrated, code=2)
        assert done.stderr.startswith(f"caflow: {message}")
        assert len(done.stderr.splitlines()) == 1
    path.write_bytes(whole)
    path.with_name("job.json").write_text("{")
    with pytest.raises(InputError, match=r"job.json is not a job.json of caflow filter"):
        write_report(path, calibration, path.with_name("report.html"))
