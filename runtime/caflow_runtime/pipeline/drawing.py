"""Samples of images: drawn, ranked, drawn again where they are rejected, and scored again where they are changed."""

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
"""An image, of 16 bits where these are written, to what its file is read as, where that is not the same."""


@dataclass(frozen=True)
class Written:
    """What results are written as."""

    is_deep: bool = False
    """With 16 bits: results have them, too."""
    as_read: AsWritten | None = None
    """What is judged where images are judged; None where that is the image."""


def draw_best(
    runner: Runner,
    likelihoods: Likelihoods,
    conditions: list[Image],
    draw: Draw,
    show: ShowWindows | None,
    written: Written,
) -> Best:
    """The best sample of each condition.

    Raises:
        InputError: if the model cannot be drawn from so.
        NotFinite, Untypical
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
    if draw.judges == "image":  # perhaps of images as they are written
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
    """All samples of each condition, the best first; with `is_deep` also with 16 bits.

    Raises:
        InputError: if the model cannot be drawn from so.
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
    """What is typical of samples of a draw that needs to know it.

    Raises:
        InputError: if what it needs is not known, or the model cannot be drawn from so.
    """
    draw.check_fits(runner.model)
    return check_calibrated(likelihoods.calibration, draw) if draw.needs_calibration else None


def check_calibrated(calibration: Calibration, draw: Draw) -> Reference | None:
    """What is typical of the samples, where a draw asks for it; and whether what it asks for is known.

    Raises:
        InputError
    """
    needs_samples = draw.rank == "typical" or draw.judges == "sample"
    reference = calibration.reference(temperature_of(draw.temperature)) if needs_samples else None
    if draw.reject is not None:
        check_alpha(draw.reject.alpha, reference if reference and draw.judges == "sample" else calibration.truth)
    return reference


def score_rows(
    runner: Runner, targets: list[Image], conditions: list[Image], show: ShowWindows | None = None
) -> list[Row]:
    """The likelihood of each target.

    Raises:
        NotFinite: if the model cannot score one.
    """
    rows = sorted(runner.score(targets, conditions, show), key=lambda row: row.image)
    for row in rows:
        check_finite(row, f"target[{row.image}]")
    return rows


def _redraw(runner: Runner, chooser: Chooser, k: int, most: int) -> None:
    """Samples of one image in place of those that were rejected, until none is missing or `most` were drawn."""
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
    """Take the first sample of one image that is a typical image; others are drawn until there is one, or enough."""
    draw, condition = chooser.draw, chooser.conditions[k]

    def judged(candidate: Candidate) -> tuple[Row, Typicality | None]:
        pixels = candidate.image if candidate.deep is None else candidate.deep
        image = candidate.image if as_read is None else as_read(pixels)
        (row,) = score_rows(runner, [image], [condition])
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
    """The rows with the likelihoods of their images, which were changed after they were drawn."""
    rows = [candidate.row for candidate in candidates]
    changed = [k for k, row in enumerate(rows) if row.sample != REJECTED]
    scored = score_rows(runner, [candidates[k].image for k in changed], [conditions[k] for k in changed], show)
    for k, row in zip(changed, scored, strict=True):
        rows[k] = row
    return rows


def _of_each(pictures: Sequence[NDArray[Any]], n: int) -> Stack:
    """The `n` pictures of each image together."""
    return stack([np.stack(pictures[k : k + n]) for k in range(0, len(pictures), n)])


def _deep(candidates: list[Candidate]) -> list[NDArray[np.uint16]]:
    return [candidate.deep for candidate in candidates if candidate.deep is not None]


def _consistencies(candidates: list[Candidate]) -> NDArray[np.float64] | None:
    known = [candidate.consistency for candidate in candidates]
    return None if any(value is None for value in known) else np.array(known, np.float64)
