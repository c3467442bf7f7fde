"""Fuzzing of pair lists, job states and results: damage is refused, or damaged lines are discarded and recomputed."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes, changed_file, changed_json_line, changed_lines
from tiny import TINY

from caflow_deploy.filtering.report import most_by_chance
from caflow_deploy.filtering.report_summary import Summary, read_job, read_lines
from caflow_deploy.filtering.verdict_folder import SCORES, FilterJob, FilterSettings, FilterState
from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.pairs import list_pairs
from caflow_deploy.jobs.folder import PipelineSettings, State, flat, stamp_of
from caflow_deploy.jobs.image_folder import COMMAND, RESULTS, ImageFolder, ImageSettings
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.image_report import ImageReport
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.file_io.line_checksum import fields_with_checksum, with_checksum
from caflow_runtime.file_io.paths import as_path, as_text
from caflow_runtime.file_io.strict_json import WrongJson, convert, parse_json
from caflow_runtime.ood.calibration import read_calibration
from caflow_runtime.ood.verdict import Verdict

PIPELINE = PipelineSettings("0" * 64, "1" * 64, "fp32", "onnxruntime cpu")
SETTINGS = FilterSettings(PIPELINE, 0.01, 2**28, "2" * 64)
IMAGES = ImageSettings(PIPELINE, DrawOptions(10, (0.8, 0.7)))
PAIRS = 4
HEADERS = [*["target,condition\n"] * 4, "target,condition,target\n", "condition,target,condition\n"]
ALPHAS = [2.0, -1, 0, 1, 1e308, "0.1", None]
UncheckedVerdict = msgspec.defstruct(
    "UncheckedVerdict", [(field.name, Any, None) for field in msgspec.structs.fields(Verdict)], frozen=True
)
"""Verdict whose values may be wrong."""


def lists(folder: Path) -> Attempt:
    """Change a list of pairs, written as CSV or as JSON Lines. One file lies in a link that leads to itself."""
    (folder / "loop").symlink_to(folder / "loop")
    names = [(f"b/{k}.png", f"a/é {k}.png") for k in range(PAIRS)] + [("loop/b.png", "loop/a.png")]
    table = "".join(f'{target},"{condition}"\n' for target, condition in names)
    lines = "".join(json.dumps({"target": target, "condition": condition}) + "\n" for target, condition in names)

    def attempt(source: random.Random) -> str:
        if source.random() < 0.3:
            path = folder / "pairs.csv"
            text = source.choice(HEADERS) + table
            path.write_bytes(changed_lines(source, text.encode(), lambda line: changed_bytes(source, line + b" ")))
        else:
            path = folder / "pairs.jsonl"
            path.write_bytes(changed_lines(source, lines.encode(), lambda line: changed_json_line(source, line)))
        try:
            pairs = list_pairs(path)
            FilterJob(folder / "job", pairs, SETTINGS, force=True)
        except InputError:
            return REFUSED
        for pair in pairs:
            for name in pair:
                assert as_path(as_text(name)) == name
                with suppress(UnreadableImage):
                    read_image(name)
        return "read"

    return attempt


def image_batches(folder: Path) -> Attempt:
    """Change the state of an image job, or its results."""
    sources = [folder / f"{k}.png" for k in range(PAIRS)]
    jobs = [ImageJob(path, folder / "out" / path.name, (), {}) for path in sources]
    batch = folder / "out"
    batch.mkdir()
    lines = []
    for job in jobs:
        job.source.write_bytes(b"image")
        job.output.write_bytes(b"result")
        names = {"input": as_text(job.source), "output": as_text(job.output)}
        drawn = {
            "outcome": "accepted",
            "input_bits": 8,
            "density_at": "sample",
            "input_stamp": stamp_of(job.source),
            "log_likelihood": -7352.5,
            "sample": 0,
        }
        lines.append(fields_with_checksum({**names, **drawn, "consistency_db": 50.0, "maps": {"spread": [0.0, 1.5]}}))
    State(flat(IMAGES), COMMAND).write(batch)
    (batch / RESULTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    good = {name: (batch / name).read_bytes() for name in (JOB_FILE, RESULTS)}

    def attempt(source: random.Random) -> str:
        for name, contents in good.items():
            (batch / name).write_bytes(contents)
        for job in jobs:
            job.output.write_bytes(b"" if source.random() < 0.1 else b"result")
        if source.random() < 0.5:
            (batch / JOB_FILE).write_bytes(changed_file(source, good[JOB_FILE]))
        else:
            change = source.choice([changed_json_line, _rehashed_result])
            (batch / RESULTS).write_bytes(changed_lines(source, good[RESULTS], lambda line: change(source, line)))
        try:
            found = ImageFolder(batch, jobs, IMAGES)
        except InputError:
            return REFUSED
        assert len(found.left) + sum(found.outcomes.values()) == len(jobs)
        assert all(job in found.left for job in jobs if not job.output.stat().st_size)
        for line in map(json.loads, (batch / RESULTS).read_bytes().split(b"\n")[:-1]):
            assert line in lines or 0 <= (convert(line, ImageReport).sample_typicality or 0) <= 1
        return "read"

    return attempt


def scores(folder: Path) -> Attempt:
    """Change the verdicts of a filter job, and in some cases its state; then summarize them for a report."""
    calibration = read_calibration(TINY)
    assert calibration is not None
    levels = calibration.truth.levels
    verdicts = _judged(folder, levels)
    good = b"".join(msgspec.json.encode(verdict) + b"\n" for verdict in verdicts)
    state = msgspec.json.encode(FilterState(flat(SETTINGS), "caflow filter"))
    path = folder / SCORES

    def attempt(source: random.Random) -> str:
        change = source.choice([changed_json_line, _rehashed_verdict])
        path.write_bytes(changed_lines(source, good, lambda line: change(source, line)))
        (folder / JOB_FILE).write_bytes(state if source.random() < 0.5 else changed_file(source, state))
        if source.random() < 0.3:
            edited = FilterState(flat(SETTINGS) | {"alpha": source.choice(ALPHAS)}, "caflow filter")
            (folder / JOB_FILE).write_bytes(msgspec.json.encode(edited))
        summary = Summary(calibration)
        try:
            alpha = read_job(path).min_typicality
            for line in read_lines(path, levels):
                assert line in verdicts or change is _rehashed_verdict
                summary.add(line)
        except InputError:
            return REFUSED
        assert 0 <= most_by_chance(alpha or 0.01, summary.judged, calibration.photographs) <= summary.judged
        assert len(summary.typical) + len(summary.untypical) <= max(1, summary.scored)
        return "read"

    return attempt


def _judged(folder: Path, levels: int) -> list[Verdict]:
    """Return verdicts on pairs of files, with their checksums, as a job writes them."""
    verdicts = []
    for k in range(PAIRS):
        target, condition = folder / f"target {k}.png", folder / f"condition {k}.png"
        for path in (target, condition):
            path.write_bytes(b"image")
        rest: dict[str, Any] = {
            "image_typicality": 0.25 * k,
            "image_typicality_per_level": [0.5] * levels,
            "residuals": [0.1 * k] * levels,
            "log_likelihood": -7352.5,
            "log_likelihood_per_level": [-100.0] * levels,
            "bits_per_dim": 3.5,
            "width": 32,
            "height": 24,
        }
        rest |= {"target_stamp": stamp_of(target), "condition_stamp": stamp_of(condition)}
        verdict = Verdict(as_text(target), as_text(condition), "accepted" if k else "rejected", **rest)
        verdicts.append(with_checksum(verdict))
    return verdicts


def _rehashed_result(source: random.Random, line: bytes) -> bytes:
    """Change a line of `results.jsonl`, and compute its hash again."""
    text = changed_json_line(source, line)
    try:
        fields = parse_json(text, dict[str, Any])
    except WrongJson:
        return text
    fields.pop("sha256", None)
    return json.dumps(fields_with_checksum(fields)).encode()


def _rehashed_verdict(source: random.Random, line: bytes) -> bytes:
    """Change a line of `scores.jsonl`, and compute its hash again."""
    text = changed_json_line(source, line)
    try:
        verdict: Any = parse_json(text, UncheckedVerdict)
    except WrongJson:
        return text
    return msgspec.json.encode(with_checksum(verdict))
