"""HTML page about scored pairs: how many were rejected, whether they match the calibration, and examples."""

import math
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path

import cv2

from caflow_deploy.filtering import report_plots as plots
from caflow_deploy.filtering.report_summary import Summary, read_job, read_lines
from caflow_deploy.images.image_files import read_image
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.file_io.atomic_files import remove_leftovers, write_atomically
from caflow_runtime.file_io.paths import as_path
from caflow_runtime.ood.calibration import Calibration
from caflow_runtime.ood.drift import MIN_VALUES, SMALL_P

NEEDED = ("jinja2", "matplotlib")
TEMPLATE = Path(__file__).with_name("report.html.j2")
THUMBNAIL_SIDE = 160
JPEG_QUALITY = 88
CHANCE = 0.01
"""Probability below which a number of rejected pairs is not explained by chance."""
ROUNDING = 1e-9
"""Margin for probabilities that equal `CHANCE` except for rounding, such as that of a single pair at α = 0.01."""


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
        raise InputError(f"{scores} belongs to another bundle: use the same `model` as for caflow filter")
    if calibration_sha256 and job.calibration not in (None, calibration_sha256):
        raise InputError(f"{scores} was made with another calibration of the bundle: run caflow filter again")
    min_typicality = job.min_typicality
    summary = Summary(calibration)
    for line in read_lines(scores, calibration.truth.levels):
        summary.add(line)
    by_chance = None
    if min_typicality and summary.judged:
        by_chance = most_by_chance(min_typicality, summary.judged, calibration.photographs)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["thumbnail"] = thumbnail
    page = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        scores=scores,
        summary=summary,
        min_typicality=min_typicality,
        fewest=MIN_VALUES,
        small=SMALL_P,
        by_chance=by_chance,
        plots=plots.all_of(summary, min_typicality) if summary.scored else {},
    )
    write_atomically(output, page.encode("utf-8", errors="backslashreplace"))
    remove_leftovers([output])
    return summary


def most_by_chance(min_typicality: float, count: int, photographs: int) -> int:
    """Return the largest number of pairs that chance alone rejects in 99 of 100 lists of real photographs.

    The threshold of the calibration is itself an estimate: the fraction of real photographs below it has a beta
    distribution (Vovk, "Conditional validity of inductive conformal predictors", 2012), so the number of rejected pairs
    has a beta-binomial distribution. It is exact for short lists, too.

    Arguments:
        min_typicality: threshold of the typicality, above 0 and below 1.
        count: number of pairs that were judged.
        photographs: number of photographs in the calibration. It counts as if it had one pair per photograph, because
            crops of one photograph are alike.
    """
    below, above = min_typicality * photographs, (1 - min_typicality) * photographs
    log_probability = math.lgamma(count + above) - math.lgamma(count + photographs)
    log_probability += math.lgamma(photographs) - math.lgamma(above)
    total, number = math.exp(log_probability), 0
    while total <= 1 - CHANCE + ROUNDING and number < count:
        log_probability += math.log((count - number) * (number + below) / ((number + 1) * (count - number - 1 + above)))
        number += 1
        total += math.exp(log_probability)
    return number


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
