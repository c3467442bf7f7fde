"""HTML page about scored pairs: how many were rejected, whether they match the calibration, and examples."""

import math
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path

import cv2

from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.judge.calibration import Calibration
from caflow_runtime.judge.whole_list import FEWEST
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
"""Standard deviations on each side of the mean that include 98 % of a normal distribution."""


def write_report(
    scores: Path, calibration: Calibration, output: Path, calibration_sha256: str | None = None
) -> Summary:
    """Write a page about a `scores.jsonl`, and return its summary. The page is one HTML file that needs no other files.

    Arguments:
        calibration_sha256: SHA-256 of the calibration's file. Scores from another calibration are refused.

    Raises:
        InputError: if the scores cannot be read or belong to another bundle, or if a package is missing.
        OSError: if the page cannot be written.
    """
    for package in NEEDED:
        if find_spec(package) is None:
            raise InputError(f"reports need {package}: pip install 'caflow-deploy[report]'")
    import jinja2

    job = read_job(scores)
    if job.bundle not in (None, calibration.manifest_sha256):
        raise InputError(f"{scores} belongs to another bundle: use the same --bundle as for caflow filter")
    if calibration_sha256 and job.calibration not in (None, calibration_sha256):
        raise InputError(f"{scores} was made with another calibration of the bundle: run caflow filter again")
    alpha = job.alpha
    summary = Summary(calibration)
    for line in read_lines(scores, calibration.truth.levels):
        summary.add(line)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["thumbnail"] = thumbnail
    page = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        scores=scores,
        summary=summary,
        alpha=alpha,
        fewest=FEWEST,
        by_chance=by_chance(alpha, summary.judged, calibration.photographs) if alpha and summary.judged else None,
        plots=plots.all_of(summary, alpha) if summary.scored else {},
    )
    write_whole(output, page.encode("utf-8", errors="backslashreplace"))
    remove_leftovers([output])
    return summary


def by_chance(alpha: float, count: int, photographs: int) -> tuple[float, float]:
    """Return the smallest and the largest fraction of typical pairs that chance alone rejects, in 98 of 100 lists.

    The calibration counts as if it had one pair per photograph, because crops of one photograph are alike. Half a pair
    is added to the range, because a fraction of a small number of pairs is coarse.

    Arguments:
        alpha: threshold of the typicality.
        count: number of pairs that were judged, at least 1.
        photographs: number of photographs in the calibration.
    """
    spread = NINETY_EIGHT_PERCENT * math.sqrt(alpha * (1 - alpha) * (1 / count + 1 / photographs)) + 0.5 / count
    return max(0.0, alpha - spread), min(1.0, alpha + spread)


def thumbnail(path: str) -> str | None:
    """Return a small JPEG of an image file as a data URL; None if the file cannot be read.

    The longest side has 160 pixels.

    Arguments:
        path: path of the file, as `as_text` wrote it.
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
