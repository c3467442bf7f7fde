"""Drawing of results: samples are ranked, replaced if they are rejected, and scored again if they are changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import Runner, ShowWindows
from caflow_runtime.batching.tile_merging import BatchItem
from caflow_runtime.image_arrays import Image, Images, as_images
from caflow_runtime.ood.calibration import Calibration
from caflow_runtime.ood.typicality import Typicality, check_alpha, temperature_of
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.calibrated_likelihoods import check_finite
from caflow_runtime.pipeline.choice import Candidate, Chooser
from caflow_runtime.pipeline.open_model import OpenModel
from caflow_runtime.pipeline.results import REJECTED, Best, Samples, Stack, stack

AsWritten = Callable[[NDArray[Any]], Image]
"""Function that returns an image as it is read back from its file, with 8 bits. The argument has 16 bits if such files
are written, else 8 bits."""


@dataclass(frozen=True)
class ResultEncoding:
    """Form in which results are written to files."""

    is_deep: bool = False
    """Whether files have 16 bits per value. Results then have 16-bit images as well."""
    as_read: AsWritten | None = None
    """Function that returns an image as it is read back from its file, so that this image is judged. None if files
    store images unchanged."""


def sample_best(
    pipe: OpenModel,
    images: Images,
    config: DrawOptions,
    show: ShowWindows | None = None,
    written: ResultEncoding | None = None,
) -> Best:
    """Draw samples, and return the best sample of each image.

    Raises:
        InputError: if an argument is not valid, or the model or its calibration does not support these settings.
        NotFinite: if no sample of an image is finite.
        Untypical: if all samples of an image are rejected and `config.otherwise` is "drop".
    """
    conditions = as_images(images, "images", pipe.manifest.model.condition_channels)
    config, written = config.for_model(pipe.manifest), written or ResultEncoding()
    typicality_model = typicality_model_for(pipe, config)
    chooser = Chooser(pipe.runner.model, pipe.consistency, conditions, config, typicality_model, written.is_deep)
    for item in pipe.runner.draw(conditions, range(config.number), config, show):
        chooser.take(item)
        del item  # free its continuous pixels
    for k in range(len(conditions)):
        if config.rejects_images:
            _judge_images(pipe, chooser, k, written.as_read)
        elif config.rejects:
            _redraw(pipe.runner, chooser, k)
    winners = [chooser.chosen(k) for k in range(len(conditions))]
    items = (
        _scored_again(pipe.runner, winners, conditions, show) if config.consistent else [one.item for one in winners]
    )
    likelihood = pipe.likelihoods.parts(items, conditions, None if config.consistent else config.temperature)
    if config.judge == "image":  # these are likelihoods of images as they are read back from their files
        if not config.rejects:
            pictures = [_as_read(winner, written.as_read) for winner in winners]
            judged = score_items(pipe.runner, pictures, conditions, show)
            winners = [replace(winner, scored=item) for winner, item in zip(winners, judged, strict=True)]
        scored = [winner.scored or winner.item for winner in winners]
        likelihood["image_typicality"] = pipe.likelihoods.typicality_of(scored, conditions, None)
    return Best(
        images=stack([winner.image for winner in winners]),
        deep=stack(_deep(winners)) if written.is_deep else None,
        sample=np.array([winner.item.sample for winner in winners]),
        consistency=_consistencies(winners),
        outcome=[winner.outcome for winner in winners],
        rejected=np.array([choice.rejected for choice in chooser.choices]),
        bits_per_dim_drawn=[np.array(choice.bits_per_dim) for choice in chooser.choices],
        density_at="image" if config.consistent else "sample",
        **likelihood,
    )


def sample_all(
    pipe: OpenModel, images: Images, config: DrawOptions, show: ShowWindows | None = None, is_deep: bool = False
) -> Samples:
    """Draw all samples of each image, and return them, the best first. With `is_deep`, include 16-bit images.

    Raises:
        InputError: if an argument is not valid, or the model or its calibration does not support these settings.
        NotFinite: if any sample is not finite.
    """
    conditions, n = as_images(images, "images", pipe.manifest.model.condition_channels), config.number
    config, count = config.for_model(pipe.manifest), len(conditions)
    chooser = Chooser(
        pipe.runner.model, pipe.consistency, conditions, config, typicality_model_for(pipe, config), is_deep
    )
    found = pipe.runner.draw(conditions, range(n), config, show)
    drawn = [chooser.candidate(chooser.value(item), item) for item in found]
    drawn.sort(key=lambda candidate: (candidate.item.image, -candidate.value))
    repeated = [conditions[candidate.item.image] for candidate in drawn]
    items = _scored_again(pipe.runner, drawn, repeated, show) if config.consistent else [one.item for one in drawn]
    likelihood = pipe.likelihoods.parts(items, repeated, None if config.consistent else config.temperature)
    measured, maps = _consistencies(drawn), likelihood["maps"]
    statistics = likelihood["statistics"]
    return Samples(
        images=_of_each([candidate.image for candidate in drawn], n),
        deep=_of_each(_deep(drawn), n) if is_deep else None,
        sample=np.array([candidate.item.sample for candidate in drawn]).reshape(-1, n),
        consistency=None if measured is None else measured.reshape(-1, n),
        density_at="image" if config.consistent else "sample",
        per_level=likelihood["per_level"].reshape(count, n, -1),
        dims=likelihood["dims"][::n],
        sides=likelihood["sides"][::n],
        maps=[maps[k : k + n] for k in range(0, len(maps), n)],
        sample_typicality=_reshaped(likelihood["sample_typicality"], count, n),
        image_typicality=_reshaped(likelihood["image_typicality"], count, n),
        statistics=None if statistics is None else statistics.reshape(count, n, -1),
    )


def typicality_model_for(pipe: OpenModel, config: DrawOptions) -> TypicalityModel | None:
    """Return the typicality model of samples, if a draw needs it.

    Raises:
        InputError: if the calibration does not support the draw.
    """
    return check_calibrated(pipe.calibration, config) if config.needs_calibration else None


def check_calibrated(calibration: Calibration, config: DrawOptions) -> TypicalityModel | None:
    """Check that the calibration supports a draw. Return the typicality model of samples, if the draw needs it.

    Raises:
        InputError: if the temperature is not calibrated, or the threshold α is too small for the calibration.
    """
    rejects_samples = config.rejects and not config.rejects_images
    assert config.temperature is not None  # after `for_model`
    needs_samples = rejects_samples or config.rank == "typical"
    typicality_model = calibration.typicality_model(temperature_of(config.temperature)) if needs_samples else None
    if config.rejects:
        check_alpha(
            config.min_typicality,
            typicality_model if typicality_model and rejects_samples else calibration.truth,
        )
    return typicality_model


def score_items(
    runner: Runner, targets: list[Image], conditions: list[Image], show: ShowWindows | None = None
) -> list[BatchItem]:
    """Return an item with the likelihood of each target, in the order of the targets.

    Raises:
        NotFinite: if the likelihood of a target is not finite.
    """
    items = sorted(runner.score(targets, conditions, show), key=lambda item: item.image)
    for item in items:
        check_finite(item, f"target[{item.image}]")
    return items


def _redraw(runner: Runner, chooser: Chooser, k: int) -> None:
    """Draw samples of one image in place of rejected ones, until `n` are accepted or the most were drawn in total."""
    config, drawn = chooser.config, chooser.config.number
    while (missing := config.number - chooser.choices[k].accepted) > 0 and drawn < config.most_samples:
        drawn = _draw_more(runner, chooser, k, range(drawn, min(config.most_samples, drawn + missing)))


def _judge_images(pipe: OpenModel, chooser: Chooser, k: int, as_read: AsWritten | None) -> None:
    """Choose the first sample of one image whose image is typical. Draw more samples until one is, up to the limit."""
    config, condition, drawn = chooser.config, chooser.conditions[k], chooser.config.number
    while True:
        for candidate in chooser.take_waiting(k):
            (item,) = pipe.runner.score([_as_read(candidate, as_read)], [condition])
            if chooser.judge_image(k, candidate, item, pipe.likelihoods.typicality_of([item], [condition], None)):
                return
        if drawn == config.most_samples:
            return
        drawn = _draw_more(pipe.runner, chooser, k, range(drawn, min(config.most_samples, drawn + config.number)))


def _as_read(candidate: Candidate, as_read: AsWritten | None) -> Image:
    """Return the image of a candidate as it is read back from its file."""
    if as_read is None:
        return candidate.image
    return as_read(candidate.image if candidate.deep is None else candidate.deep)


def _draw_more(runner: Runner, chooser: Chooser, k: int, samples: range) -> int:
    """Draw more samples of one image. Return how many were drawn until now."""
    for item in runner.draw([chooser.conditions[k]], samples, chooser.config):
        chooser.take(replace(item, image=k))
    return samples.stop


def _reshaped(typical: Typicality | None, *shape: int) -> Typicality | None:
    return None if typical is None else typical.reshape(*shape)


def _scored_again(
    runner: Runner, candidates: list[Candidate], conditions: list[Image], show: ShowWindows | None
) -> list[BatchItem]:
    """Return the items with the likelihoods of the candidates' images, which were changed after drawing."""
    items = [candidate.item for candidate in candidates]
    changed = [k for k, item in enumerate(items) if item.sample != REJECTED]
    scored = score_items(runner, [candidates[k].image for k in changed], [conditions[k] for k in changed], show)
    for k, item in zip(changed, scored, strict=True):
        items[k] = item
    return items


def _of_each(pictures: Sequence[NDArray[Any]], n: int) -> Stack:
    """Stack the `n` pictures of each image."""
    return stack([np.stack(pictures[k : k + n]) for k in range(0, len(pictures), n)])


def _deep(candidates: list[Candidate]) -> list[NDArray[np.uint16]]:
    return [candidate.deep for candidate in candidates if candidate.deep is not None]


def _consistencies(candidates: list[Candidate]) -> NDArray[np.float64] | None:
    known = [candidate.consistency for candidate in candidates]
    return None if any(value is None for value in known) else np.array(known, np.float64)
