"""Verdicts on the pairs of a long list: files are read ahead, scored in batches and judged in the order of the list.

The last bits of a likelihood depend on which pairs run in the same batch. Batches therefore never cross a multiple of
`BATCH` in the list. A job that resumes at such a multiple gets bit-identical numbers.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.input_files import pair_of
from caflow_deploy.images.open_models import RunOptions, opened
from caflow_deploy.images.pairs import FilePair, list_pairs
from caflow_deploy.jobs.folder import stamp_of
from caflow_runtime.bundle.builtin import DEFAULT
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.checks import check_share, checked_path
from caflow_runtime.errors import InputError, NotFinite, UnreadableImage
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.image_arrays import Image
from caflow_runtime.interruptible import abandoned
from caflow_runtime.ood.verdict import Verdict, decide
from caflow_runtime.pipeline.calibrated_likelihoods import NOT_FINITE
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Score

BATCH = 64
"""Largest number of pairs in one batch."""
BATCH_PIXELS = 2**22
"""Number of target pixels at which a batch is complete: the pair that reaches this number is the last of its batch."""
READERS = 4
READ_AHEAD = 8
"""Number of pairs that are read ahead while a batch is scored."""


@dataclass(frozen=True)
class Loaded:
    """Pair whose files were read, or the reason why the pair cannot be scored."""

    files: FilePair
    stamps: tuple[str | None, str | None]
    target: Image | None
    condition: Image | None
    size: tuple[int, int]
    """Height and width of the target's file, in pixels; (0, 0) if it could not be read."""
    wrong: str | None = None
    """Reason why the pair cannot be scored; None if it can."""

    @property
    def names(self) -> dict[str, Any]:
        """Fields of a verdict that identify the two files: their paths as text, and their stamps."""
        target, condition = map(as_text, self.files)
        target_stamp, condition_stamp = self.stamps
        return {
            "target": target,
            "condition": condition,
            "target_stamp": target_stamp,
            "condition_stamp": condition_stamp,
        }

    def failed(self, wrong: str) -> Verdict:
        """Return the verdict of a pair that cannot be scored. `wrong` is the reason, in words."""
        height, width = self.size
        return Verdict(verdict="error", reason=wrong, width=width or None, height=height or None, **self.names)


def filter_pairs(
    pairs: str | PathLike[str] | Iterable[tuple[str | PathLike[str], str | PathLike[str]]],
    *,
    model: str | PathLike[str] | Pipeline = DEFAULT,
    min_typicality: float = 0.01,
    run: RunOptions = RunOptions(),
) -> Iterator[Verdict]:
    """Yield the verdict of each pair of a target and a condition, in order: is the target usual for its condition?

    Arguments:
        pairs: paths of targets and conditions; or what `caflow filter` reads: a .csv or .jsonl file, or a folder with
            the subfolders A (conditions) and B (targets).
        model: a calibrated model.
        min_typicality: as in `verdicts_of`.
        run: where the model runs, and the largest image that is read.

    Raises:
        InputError: as from `verdicts_of`, or if the list of pairs is not valid.
        BundleError, BackendError: if the model cannot be opened or run.
    """
    if isinstance(pairs, str | PathLike):
        files = list_pairs(Path(pairs))
    else:
        named = ((checked_path("target", one), checked_path("condition", other)) for one, other in pairs)
        files = [FilePair(*map(str, pair)) for pair in named]
    with opened(model, run) as pipe:
        yield from verdicts_of(pipe, files, min_typicality, run.max_pixels)


def verdicts_of(
    pipe: Pipeline, pairs: Iterable[FilePair], min_typicality: float = 0.01, max_pixels: int = MAX_IMAGE_PIXELS
) -> Iterator[Verdict]:
    """Yield the verdict of each pair, in the order of the list. Memory use does not grow with the number of pairs.

    A pair gets the verdict "error" if a file cannot be read, the sizes do not fit together, or the likelihood is not
    finite. The remaining pairs are still judged.

    Arguments:
        min_typicality: a pair with a lower typicality is rejected. About this fraction of pairs like those of the
            calibration is rejected by mistake.
        max_pixels: largest number of pixels of each file, as in `read_image`.

    Raises:
        InputError: if `min_typicality` is not above 0 and below 1, or the bundle is not calibrated.
    """
    check_share("min_typicality", min_typicality, is_open=True)
    smallest_typicality(pipe)
    loaded = _read_ahead(pairs, partial(_load, model=pipe.manifest.model, max_pixels=max_pixels))
    return (verdict for batch in _batches(loaded) for verdict in _judge(pipe, batch, min_typicality))


def judge(pipe: Pipeline, pairs: Iterable[FilePair], min_typicality: float, max_pixels: int) -> list[Verdict]:
    """Return the verdicts of `verdicts_of` as a list. Workers call it with the pairs of one batch."""
    return list(verdicts_of(pipe, pairs, min_typicality, max_pixels))


def smallest_typicality(pipe: Pipeline) -> float:
    """Return the smallest typicality that a pair in the calibration's smallest group can have.

    In that group, this α or a smaller one rejects nothing, because the calibration saw too few images to measure rarer
    values.

    Raises:
        InputError: if the bundle is not calibrated.
    """
    return pipe.calibration.truth.smallest


def _read_ahead(pairs: Iterable[FilePair], load: Callable[[FilePair], Loaded]) -> Iterator[Loaded]:
    """Yield loaded pairs in the order of the list. Meanwhile, threads read up to `READ_AHEAD` further pairs."""
    waiting: deque[Future[Loaded]] = deque()
    with abandoned(ThreadPoolExecutor(READERS)) as pool:
        for files in pairs:
            waiting.append(pool.submit(load, files))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _load(files: FilePair, model: Model, max_pixels: int) -> Loaded:
    stamps, size = (stamp_of(files.target), stamp_of(files.condition)), (0, 0)
    try:
        image = read_image(files.target, max_pixels).rgb
        size = image.shape[0], image.shape[1]
        return Loaded(files, stamps, *pair_of(image, files, model, max_pixels), size)
    except UnreadableImage as error:
        wrong = as_text(str(error))
    except InputError as error:
        wrong = str(error)
    except MemoryError:
        wrong = _memory_ran_out(files)
    return Loaded(files, stamps, None, None, size, wrong)


def _batches(loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    batch: list[Loaded] = []
    pixels = 0
    for number, pair in enumerate(loaded, 1):
        height, width = pair.size
        batch.append(pair)
        pixels += height * width
        if number % BATCH == 0 or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _judge(pipe: Pipeline, batch: list[Loaded], min_typicality: float) -> list[Verdict]:
    """Return the verdicts of a batch, in its order. Pairs are scored sorted by size, since equal sizes run together."""
    verdicts = {k: pair.failed(pair.wrong) for k, pair in enumerate(batch) if pair.wrong is not None}
    places = sorted(set(range(len(batch))) - set(verdicts), key=lambda k: (batch[k].size, k))
    verdicts |= zip(places, _score(pipe, [batch[k] for k in places], min_typicality), strict=True)
    return [verdicts[k] for k in range(len(batch))]


def _score(pipe: Pipeline, pairs: Sequence[Loaded], min_typicality: float) -> list[Verdict]:
    """Return the verdicts of pairs that were read. If they cannot be scored together, score each pair separately."""
    targets = [pair.target for pair in pairs if pair.target is not None]
    conditions = [pair.condition for pair in pairs if pair.condition is not None]
    if not pairs:
        return []
    name = as_text(pairs[0].files.target)
    try:
        score = pipe.score(targets, conditions)
    except NotFinite:
        wrong = f"{name}: {NOT_FINITE}"
    except InputError as error:
        wrong = f"{name}: {error}"
    except MemoryError:
        wrong = _memory_ran_out(pairs[0].files)
    else:
        return [_verdict(pair, score, k, min_typicality) for k, pair in enumerate(pairs)]
    if len(pairs) == 1:
        return [pairs[0].failed(wrong)]
    return [verdict for pair in pairs for verdict in _score(pipe, [pair], min_typicality)]


def _verdict(pair: Loaded, score: Score, k: int, min_typicality: float) -> Verdict:
    """Return the verdict of `pair`, which has number `k` in `score`."""
    assert score.image_typicality is not None
    typical = score.image_typicality.of(k)
    verdict, why = decide(typical, min_typicality)
    is_judged = bool(typical.is_judged)
    height, width = pair.size
    return Verdict(
        verdict=verdict,
        reason=why,
        image_typicality=float(typical.value) if is_judged else None,
        image_typicality_per_level=typical.per_level.tolist() if is_judged else None,
        residuals=typical.residuals.tolist() if is_judged else None,
        log_likelihood=float(score.log_likelihood[k]),
        log_likelihood_per_level=score.per_level[k].tolist(),
        bits_per_dim=float(score.bits_per_dim[k]),
        width=width,
        height=height,
        **pair.names,
    )


def _memory_ran_out(files: FilePair) -> str:
    return f"{as_text(files.target)}: ran out of memory; free memory, or reduce the images"
