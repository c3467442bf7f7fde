"""A page about scored pairs: how many were rejected, whether they are as at calibration, and what they look like."""

import math
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path

import cv2

from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.judge.calibration import Calibration
from caflow_runtime.path_text import as_path
from caflow_runtime.pictures.image_files import read_image
from caflow_runtime.report import plots
from caflow_runtime.report.summary import Summary, read_job, read_lines
from caflow_runtime.whole_files import remove_leftovers, write_whole

NEEDED = ("jinja2", "matplotlib")
TEMPLATE = Path(__file__).with_name("report.html.j2")
THUMBNAIL_SIDE = 160
JPEG_QUALITY = 88
NINETY_EIGHT_PERCENT = 2.326
"""Standard deviations on each side."""


def write_report(
    scores: Path, calibration: Calibration, output: Path, calibration_sha256: str | None = None
) -> Summary:
    """Make the page of a `scores.jsonl`: one HTML file that needs nothing else.

    Arguments:
        calibration_sha256: of its file, which scores must be of.

    Raises:
        InputError: if the scores cannot be read or are of another bundle, or if a package is missing.
        OSError: if the page cannot be written.
    """
    for package in NEEDED:
        if find_spec(package) is None:
            raise InputError(f"reports need {package}: pip install 'caflow-deploy[report]'")
    import jinja2

    job = read_job(scores)
    if job.bundle not in (None, calibration.manifest_sha256):
        raise InputError(f"{scores} is of another bundle: give the --bundle that caflow filter had")
    if calibration_sha256 and job.calibration not in (None, calibration_sha256):
        raise InputError(f"{scores} was judged by another calibration of the bundle: run caflow filter again")
    alpha = job.alpha
    summary = Summary(calibration)
    for line in read_lines(scores, calibration.truth.levels):
        summary.add(line)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["thumbnail"] = thumbnail
    page = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        scores=scores,
        summary=summary,
        alpha=alpha,
        by_chance=None if alpha is None else by_chance(alpha, summary.judged, calibration.photographs),
        plots=plots.all_of(summary, alpha) if summary.scored else {},
    )
    write_whole(output, page.encode("utf-8", errors="backslashreplace"))
    remove_leftovers([output])
    return summary


def by_chance(alpha: float, count: int, photographs: int) -> tuple[float, float]:
    """Between what shares of typical pairs are rejected, but for 1 time in 50 at most.

    As if a calibration knew one pair of each of its photographs, since crops of one are alike; shares of few pairs are
    coarse, so half a pair is added.
    """
    count = max(count, 1)
    spread = NINETY_EIGHT_PERCENT * math.sqrt(alpha * (1 - alpha) * (1 / count + 1 / photographs)) + 0.5 / count
    return max(0.0, alpha - spread), min(1.0, alpha + spread)


def thumbnail(path: str) -> str | None:
    """An image file as an address that holds it, its longest side 160 pixels; None where it cannot be read.

    Arguments:
        path: as `as_text` wrote it.
    """
    try:
        picture = read_image(as_path(path)).rgb
    except UnreadableImage:
        return None
    factor = THUMBNAIL_SIDE / max(picture.shape[:2])
    height, width = (max(1, round(factor * side)) for side in picture.shape[:2])
    filter_ = cv2.INTER_NEAREST if factor > 1 else cv2.INTER_AREA
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (width, height), interpolation=filter_)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{b64encode(encoded.tobytes()).decode()}"
