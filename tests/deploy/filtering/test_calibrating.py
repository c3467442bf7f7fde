"""Calibrating: what is measured of photographs and of given pairs, and errors for too few of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import CALIBRATED_SIDES, CALIBRATED_TEMPERATURE, calibrate, crops_of, pairs_of_photographs, photograph
from tiny import calibrated_pipe as pipe

from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.image_io.image_files import write_image
from caflow_runtime.jobs.photographs import Pair, photographs_in
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["pipe"]  # a fixture
SIDES, TEMPERATURE = CALIBRATED_SIDES, CALIBRATED_TEMPERATURE


def test_photographs_of_a_kind_with_too_few_images_do_not_count(pipe: Pipeline, photographs: Path) -> None:
    crops = pairs_of_photographs(pipe, photographs, 2)
    pairs = [replace(pair, photograph=str(k)) for k, pair in enumerate(crops)]
    for k in (0, 7):
        pairs[k] = _grey_copy(pairs[k])
    found = calibrate(pipe, pairs, [TEMPERATURE], measures_coverage=False)
    assert found.truth.grey is None
    assert (found.photographs, found.truth.images) == (24, 24)
    pairs += [replace(_grey_copy(pair), photograph="grey") for pair in pairs[1:19]]  # 20 grey images in all
    found = calibrate(pipe, pairs, [TEMPERATURE], measures_coverage=False)
    assert (found.photographs, found.truth.images) == (27, 44)


def _grey_copy(pair: Pair) -> Pair:
    grey = [np.repeat(image[..., :1], 3, 2) for image in (pair.target, pair.condition)]
    return Pair(pair.photograph, *grey)


def test_too_few_of_each_kind_are_refused_before_anything_is_drawn(
    pipe: Pipeline, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_of_photographs(pipe, photographs, 1)
    monkeypatch.delattr(Pipeline, "score")
    with pytest.raises(InputError, match=r"at least 20 coloured or 20 grey crops .* got 26 crops of 13"):
        calibrate(pipe, [*pairs, *map(_grey_copy, pairs)], [TEMPERATURE])


def test_pairs_in_one_subfolder_are_of_one_photograph(pipe: Pipeline, photographs: Path, tmp_path: Path) -> None:
    for name in ("clip/1.png", "clip/2.png", "clip-2/1.png"):
        for side, folder in ((8, "A"), (32, "B")):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, photograph(photographs, 0, side, side))
    (tmp_path / "A" / "alone.png").write_bytes(b"")
    found = photographs_in(tmp_path)
    assert [one.name for one in found] == ["alone.png", "clip", "clip", "clip-2"]  # sorted by path, not by text
    with pytest.raises(UnreadableImage, match=r"alone.png: cannot be read: No such file"):
        crops_of(pipe, found[0], SIDES)
    assert [crops_of(pipe, one, SIDES)[0].photograph for one in found[1:]] == ["clip", "clip", "clip-2"]
