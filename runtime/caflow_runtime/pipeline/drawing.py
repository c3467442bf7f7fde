"""Drawing of results: samples are ranked, replaced if they are rejected, and scored again if they are changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image import Image
from caflow_runtime.judge.calibration import Calibration
from caflow_runtime.judge.reference import Reference
from caflow_runtime.judge.typicality import Typicality, check_alpha, temperature_of
from caflow_runtime.pipeline.choice import Candidate, Chooser
from caflow_runtime.pipeline.likelihoods import Likelihoods, check_finite
from caflow_runtime.pipeline.results import REJECTED, Best, Samples, Stack, stack
from caflow_runtime.rows.assembly import Row
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.runner import Runner, ShowWindows

AsWritten = Callable[[NDArray[Any]], Image]
"""Function that returns an image as it is read back from its file, with 8 bits. The argument has 16 bits if such files
are written, else 8 bits."""


@dataclass(frozen=True)
class Written:
    """Form in which results are written to files."""

    is_deep: bool = False
    """Whether files have 16 bits per value. Results then have 16-bit images as well."""
    as_read: AsWritten | None = None
    """Function that returns an image as it is read back from its file, so that this image is judged. None if files
    store images unchanged."""


def draw_best(
    runner: Runner,
    likelihoods: Likelihoods,
    conditions: list[Image],
    draw: Draw,
    show: ShowWindows | None,
    written: Written,
) -> Best:
    """Draw samples, and return the best sample of each condition.

    Raises:
        InputError: if the model or its calibration does not support these settings.
        NotFinite: if no sample of a condition is finite.
        Untypical: if all samples of a condition are rejected and `draw.reject` requests an error for that.
    """
    chooser = Chooser(runner.model, conditions, draw, reference_for(runner, likelihoods, draw), written.is_deep)
    chooser.take_all(runner.draw(conditions, range(draw.n), draw, show))
    for k in range(len(conditions)):
        if draw.judges == "sample":
            _redraw(runner, chooser, k, draw.most_samples)
        elif draw.judges == "image":
            _judge_images(runner, likelihoods, chooser, k, written.as_read)
    winners = [chooser.chosen(k) for k in range(len(conditions))]
    rows = _scored_again(runner, winners, conditions, show) if draw.consistent else [one.row for one in winners]
    likelihood = likelihoods.parts(rows, conditions, None if draw.consistent else draw.temperature)
    if draw.judges == "image":  # these may be likelihoods of images as they are read back from their files
        scored = [winner.scored or winner.row for winner in winners]
        likelihood["image_typicality"] = likelihoods.typicality_of(scored, conditions, None)
    return Best(
        images=stack([winner.image for winner in winners]),
        deep=stack(_deep(winners)) if written.is_deep else None,
        sample=np.array([winner.row.sample for winner in winners]),
        consistency=_consistencies(winners),
        outcome=[winner.outcome for winner in winners],
        rejected=np.array([choice.rejected for choice in chooser.choices]),
        bits_per_dim_drawn=[np.array(choice.bits_per_dim) for choice in chooser.choices],
        density_at="image" if draw.consistent else "sample",
        **likelihood,
    )


def draw_all(
    runner: Runner,
    likelihoods: Likelihoods,
    conditions: list[Image],
    draw: Draw,
    show: ShowWindows | None,
    is_deep: bool,
) -> Samples:
    """Draw all samples of each condition, and return them, the best first. With `is_deep`, include 16-bit images.

    Raises:
        InputError: if the model or its calibration does not support these settings.
        NotFinite: if any sample is not finite.
    """
    n, count = draw.n, len(conditions)
    chooser = Chooser(runner.model, conditions, draw, reference_for(runner, likelihoods, draw), is_deep)
    drawn = [
        chooser.candidate(chooser.value(row, conditions[row.image]), row)
        for row in runner.draw(conditions, range(n), draw, show)
    ]
    drawn.sort(key=lambda candidate: (candidate.row.image, -candidate.value))
    repeated = [conditions[candidate.row.image] for candidate in drawn]
    rows = _scored_again(runner, drawn, repeated, show) if draw.consistent else [one.row for one in drawn]
    likelihood = likelihoods.parts(rows, repeated, None if draw.consistent else draw.temperature)
    measured, shares = _consistencies(drawn), likelihood["shares"]
    statistics = likelihood["statistics"]
    return Samples(
        images=_of_each([candidate.image for candidate in drawn], n),
        deep=_of_each(_deep(drawn), n) if is_deep else None,
        sample=np.array([candidate.row.sample for candidate in drawn]).reshape(-1, n),
        consistency=None if measured is None else measured.reshape(-1, n),
        density_at="image" if draw.consistent else "sample",
        per_level=likelihood["per_level"].reshape(count, n, -1),
        dims=likelihood["dims"][::n],
        sides=likelihood["sides"][::n],
        shares=[shares[k : k + n] for k in range(0, len(shares), n)],
        sample_typicality=_reshaped(likelihood["sample_typicality"], count, n),
        image_typicality=_reshaped(likelihood["image_typicality"], count, n),
        statistics=None if statistics is None else statistics.reshape(count, n, -1),
    )


def reference_for(runner: Runner, likelihoods: Likelihoods, draw: Draw) -> Reference | None:
    """Return the reference that describes typical samples, if a draw needs it. Check that the model supports the draw.

    Raises:
        InputError: if the model or its calibration does not support the draw.
    """
    draw.check_fits(runner.model)
    return check_calibrated(likelihoods.calibration, draw) if draw.needs_calibration else None


def check_calibrated(calibration: Calibration, draw: Draw) -> Reference | None:
    """Check that the calibration supports a draw. Return the reference of typical samples, if the draw needs it.

    Raises:
        InputError: if the temperature is not calibrated, or the threshold α is too small for the calibration.
    """
    needs_samples = draw.rank == "typical" or draw.judges == "sample"
    reference = calibration.reference(temperature_of(draw.temperature)) if needs_samples else None
    if draw.reject is not None:
        check_alpha(draw.reject.alpha, reference if reference and draw.judges == "sample" else calibration.truth)
    return reference


def score_rows(
    runner: Runner, targets: list[Image], conditions: list[Image], show: ShowWindows | None = None
) -> list[Row]:
    """Return a row with the likelihood of each target, in the order of the targets.

    Raises:
        NotFinite: if the likelihood of a target is not finite.
    """
    rows = sorted(runner.score(targets, conditions, show), key=lambda row: row.image)
    for row in rows:
        check_finite(row, f"target[{row.image}]")
    return rows


def _redraw(runner: Runner, chooser: Chooser, k: int, most: int) -> None:
    """Draw samples of one image in place of rejected ones, until `n` are accepted or `most` were drawn in total."""
    draw, choice = chooser.draw, chooser.choices[k]
    drawn = draw.n
    while choice.accepted < draw.n and drawn < most:
        more = range(drawn, min(most, drawn + draw.n - choice.accepted))
        for row in runner.draw([chooser.conditions[k]], more, draw):
            chooser.take(replace(row, image=k))
        drawn = more.stop


def _judge_images(
    runner: Runner, likelihoods: Likelihoods, chooser: Chooser, k: int, as_read: AsWritten | None
) -> None:
    """Choose the first sample of one image whose image is typical. Draw more samples until one is, up to the limit."""
    draw, condition = chooser.draw, chooser.conditions[k]

    def judged(candidate: Candidate) -> tuple[Row, Typicality | None] | None:
        pixels = candidate.image if candidate.deep is None else candidate.deep
        image = candidate.image if as_read is None else as_read(pixels)
        (row,) = runner.score([image], [condition])
        if not row.has_finite_likelihood:
            return None
        return row, likelihoods.typicality_of([row], [condition], None)

    drawn = draw.n
    while not chooser.judge_images(k, judged) and drawn < draw.most_samples:
        more = range(drawn, min(draw.most_samples, drawn + draw.n))
        for row in runner.draw([condition], more, draw):
            chooser.take(replace(row, image=k))
        drawn = more.stop


def _reshaped(typical: Typicality | None, *shape: int) -> Typicality | None:
    return None if typical is None else typical.reshape(*shape)


def _scored_again(
    runner: Runner, candidates: list[Candidate], conditions: list[Image], show: ShowWindows | None
) -> list[Row]:
    """Return the rows with the likelihoods of the candidates' images, which were changed after drawing."""
    rows = [candidate.row for candidate in candidates]
    changed = [k for k, row in enumerate(rows) if row.sample != REJECTED]
    scored = score_rows(runner, [candidates[k].image for k in changed], [conditions[k] for k in changed], show)
    for k, row in zip(changed, scored, strict=True):
        rows[k] = row
    return rows


def _of_each(pictures: Sequence[NDArray[Any]], n: int) -> Stack:
    """Stack the `n` pictures of each image."""
    return stack([np.stack(pictures[k : k + n]) for k in range(0, len(pictures), n)])


def _deep(candidates: list[Candidate]) -> list[NDArray[np.uint16]]:
    return [candidate.deep for candidate in candidates if candidate.deep is not None]


def _consistencies(candidates: list[Candidate]) -> NDArray[np.float64] | None:
    known = [candidate.consistency for candidate in candidates]
    return None if any(value is None for value in known) else np.array(known, np.float64)
