"""Measurements of the benchmarks: degradations, hard inputs, metrics of results, and blind comparisons."""

import hashlib
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from blind_look import count_votes
from click.testing import CliRunner
from colorization import APART, grey, levin, random_dots
from degradations import DEGRADATIONS, degraded
from dists import STAGES, Dists
from flicker import Clip
from hard_inputs import BLOCK, hard_checkerboards, hard_photographs, off_by
from inpainting import PATCHES, SMOOTH, compared, hole_psnr
from metrics import (
    LUMA,
    Crop,
    Picture,
    ab,
    colorfulness,
    crop,
    lattice,
    mean_difference,
    psnr,
    relative_difference,
    resize,
)
from paper.scores import HOLE, SAMPLES, TASKS, samples_of
from paper.scores import SIDE as PAPER_SIDE
from PIL import Image
from tiny import photograph
from torch import Tensor
from typicality import covered

from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow

SIDE, SCALE = 128, 4


@pytest.fixture(scope="module")
def target(photographs: Path) -> Crop:
    return crop("a photograph", Image.fromarray(photograph(photographs, 0, SIDE, SIDE)), SCALE)


@pytest.fixture(scope="module")
def dists() -> Dists:
    """DISTS with random convolutions. The tested properties do not depend on the weights."""
    random = torch.Generator().manual_seed(0)
    widths = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    layers = [
        (torch.randn(b, a, 3, 3, generator=random) * (2 / (9 * a)) ** 0.5, torch.zeros(b))
        for a, b in zip((3, *widths), widths, strict=False)
    ]
    alpha, beta = torch.rand((2, 1475), generator=random)
    assert sum(STAGES) == len(layers)
    return Dists(layers, alpha, beta)


def image(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_degradation_depends_on_the_target_and_its_name_alone(name: str, target: Crop) -> None:
    first, again = degraded(target, name), degraded(target, name)
    assert first.condition.shape == (SIDE // SCALE, SIDE // SCALE, 3)
    assert first.condition.dtype == np.uint8
    np.testing.assert_array_equal(first.condition, again.condition)
    np.testing.assert_array_equal(first.target, target.target)
    renamed = degraded(Crop("another", target.target, target.condition), name)
    assert np.array_equal(renamed.condition, first.condition) == ("noise" not in name)


def test_stronger_degradations_cost_more_quality(target: Crop) -> None:
    found = {name: psnr(degraded(target, name).condition, target.condition) for name in DEGRADATIONS}
    assert found["clean"] > 100
    assert found["jpeg90"] > found["jpeg75"] > found["jpeg30"]
    assert found["noise5"] == pytest.approx(20 * np.log10(255 / 5), abs=0.3)
    assert found["noise5-jpeg75"] < found["noise5"]


def test_coding_a_clip_twice_gives_the_same_pixels(target: Crop) -> None:
    """x264's AVX-512 code reads the memory behind a small frame, so it must not be used.

    Random arrays change this memory between the runs.
    """
    random = np.random.default_rng(0)
    coded = set()
    for _ in range(12):
        _unused = [random.integers(0, 255, random.integers(1000, 200_000)) for _ in range(20)]
        coded.add(hashlib.sha256(degraded(target, "h264-crf28").condition.tobytes()).hexdigest())
    assert len(coded) == 1


def test_dists_is_zero_for_equal_images_symmetric_and_grows_with_blur(dists: Dists, target: Crop) -> None:
    picture = target.target[-48:, -48:]
    sharp = image(picture)
    blurred = [image(np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma))) for sigma in (0.7, 1.5, 3.0)]
    distances = [float(dists(sharp, other)) for other in (sharp, *blurred)]
    assert distances[0] == pytest.approx(0, abs=1e-5)
    assert all(nearer < further for nearer, further in pairwise(distances))
    assert distances[1] > 1e-5
    assert float(dists(blurred[0], sharp)) == pytest.approx(distances[1], abs=1e-6)


def test_a_further_sample_is_covered_nine_times_in_ten_and_another_image_never(pipe: Pipeline, target: Crop) -> None:
    drawn = pipe.sample(target.condition, n=1, temperature=1.0, seed=99).images[0][0]
    brighter = drawn // 2 + np.uint8(128)
    found = covered(pipe, [Crop(target.name, one, target.condition) for one in (drawn, brighter)])
    assert found[4] == pytest.approx([0.9, 0], abs=0.05)


def test_an_outlier_is_the_block_and_channel_that_is_furthest_from_the_enlarged_condition(target: Crop) -> None:
    enlarged = resize(np.full_like(target.condition, 100), (SIDE, SIDE))
    spoilt = np.stack([enlarged, enlarged])
    spoilt[1, 2 * BLOCK : 3 * BLOCK, BLOCK : 2 * BLOCK, 1] += 30
    spoilt[1, 0, 0, 2] = 0
    np.testing.assert_allclose(off_by(spoilt, np.full_like(target.condition, 100)), [0, 30])


def test_hard_inputs_are_reproducible_and_match_their_names(target: Crop) -> None:
    first, again = (hard_photographs([target]) | hard_checkerboards() for _ in range(2))
    for kind, conditions in first.items():
        assert all(condition.dtype == np.uint8 and condition.shape[2] == 3 for condition in conditions)
        np.testing.assert_array_equal(np.stack(conditions), np.stack(again[kind]))
    for dither in ("ordered dithering", "Floyd–Steinberg"):
        (coarse,), (finer,) = first[f"{dither}, 1 bit"], first[f"{dither}, 2 bit"]
        assert set(np.unique(coarse)) == {0, 255}
        assert abs(coarse.mean() - target.condition.mean()) < 3
        assert set(np.unique(finer)) <= {0, 85, 170, 255}


def test_coded_clips_have_the_same_truth_at_every_scale() -> None:
    frames = [np.full((36, 44, 3), 10 * k, np.uint8) for k in range(3)]
    clip = Clip("grey", frames, [None] * 3)
    for scale, crf in ((2, 0), (4, 0), (4, 28)):
        conditions = clip.conditions(scale, crf)
        assert [condition.shape for condition in conditions] == [(36 // scale, 44 // scale, 3)] * 3
        np.testing.assert_allclose(np.stack(conditions).mean((1, 2, 3)), [0, 10, 20], atol=3)


@pytest.mark.parametrize("period", [2, 4])
def test_a_lattice_is_measured_in_grey_levels(target: Crop, period: int) -> None:
    """A pattern adds its own strength, wherever it begins. A pattern with another period is not measured."""
    softened = target.target // 2 + 64  # so that no value overflows
    before = lattice(softened)
    for begin in range(period):
        pattern = softened.copy()
        pattern[begin::period] += np.uint8(8)
        wanted = 8 * LUMA.sum() * np.sqrt((period - 1) / period**2)
        assert lattice(pattern) == pytest.approx(np.hypot(before, wanted), abs=before)
    other = softened.copy()
    other[::5] += np.uint8(8)
    assert lattice(other) == pytest.approx(before, abs=0.2)


def test_a_relative_difference_is_in_per_cent_of_the_others() -> None:
    values, others = [1.0, 2.0, 4.0], [2.0, 2.0, 4.0]
    mean, half = mean_difference(values, others)
    assert relative_difference(values, others) == pytest.approx((100 * mean / (8 / 3), 100 * half / (8 / 3)))
    assert mean == pytest.approx(-1 / 3)
    assert half == pytest.approx(4.303 / 3, abs=1e-3)  # Student's t for two degrees of freedom


def test_psnr_of_a_hole_ignores_other_pixels_and_even_holes(target: Crop) -> None:
    hole = np.zeros((SIDE, SIDE), bool)
    hole[20:60, 30:70] = True
    result = np.where(hole[..., None], target.target ^ 1, 0).astype(np.uint8)
    assert hole_psnr(result, target.target, hole) == pytest.approx(20 * np.log10(255))
    even = np.where(hole[..., None], np.uint8(77), target.target)
    assert hole_psnr(result, even, hole) is None


def test_fillings_are_compared_crop_by_crop() -> None:
    """The column "wins" counts the crops in which the model is better than the row."""
    each = {SMOOTH: [0.4, 0.2], PATCHES: [0.2, 0.2], "model": [0.1, 0.3]}
    rows = compared([{"method": method, "lpips of each": values} for method, values in each.items()])
    assert [row["wins, patches"] for row in rows] == [0.5, 0.5, 0]
    assert [row["− navier-stokes, %"] for row in rows] == pytest.approx([0, -100 / 3, -100 / 3])
    assert not any("of each" in key or key == "wins, smooth" for row in rows for key in row)


def test_dots_of_true_colour_are_apart_and_the_first_of_many_are_those_of_few(target: Crop) -> None:
    dots = random_dots(target.target, 12, seed=1)
    assert random_dots(target.target, 5, seed=1) == dots[:5]
    assert all(np.hypot(a.x - b.x, a.y - b.y) >= APART for a, b in combinations(dots, 2))
    image = grey(target.target)
    colored = levin(image, dots)
    for dot in dots:
        true, found = (ab(picture)[dot.y, dot.x] for picture in (target.target, colored))
        assert np.linalg.norm(found - true) < 12
    assert 0 == colorfulness(image) < colorfulness(colored)
    assert np.linalg.norm(ab(colored) - ab(target.target)) < np.linalg.norm(ab(target.target))


def test_samples_of_inpainting_differ_in_the_hole_alone(photographs: Path) -> None:
    task, seeds = TASKS["inpainting"], [torch.Generator().manual_seed(0) for _ in range(2)]
    target = np.maximum(photograph(photographs, 0, PAPER_SIDE, PAPER_SIDE), 1)  # black pixels are those of the hole
    condition = task.degrade(target, np.random.default_rng(0))
    assert (condition[HOLE, HOLE] == 0).all()
    assert (condition == 0).all(2).sum() == (HOLE.stop - HOLE.start) ** 2
    model = CAFlow(CAFlowConfig(levels=1, task=task, residual=True)).eval()
    images, likeliest, deviation = samples_of(model, condition, 1.0, seeds[0])
    filled = np.stack(images)[:, HOLE, HOLE]
    assert deviation == pytest.approx(filled.std(0).mean())
    assert deviation > 0
    for image in images:
        image[HOLE, HOLE] = target[HOLE, HOLE]
        np.testing.assert_array_equal(image, target)
    given = torch.from_numpy(condition).permute(2, 0, 1)[None].expand(SAMPLES, -1, -1, -1)
    with torch.no_grad():
        drawn = model.sample(given, model.draw_noise(SAMPLES, PAPER_SIDE, PAPER_SIDE, seeds[1]), 1.0)
    assert likeliest == drawn.log_likelihood.total.argmax()


KEY = """pair,degradation,photograph,left,right
01,blur3,a,caflow x4-real,real-esrgan x4plus
02,blur3,b,real-esrgan x4plus,caflow x4-real
03,noise5,c,caflow x4-real,real-esrgan x4plus
"""


def counted(folder: Path, *votes: str) -> str:
    """Count the votes of several people. Return what is printed, or the error."""
    (folder / "key.csv").write_text(KEY)
    files = []
    for number, lines in enumerate(votes):
        files.append(folder / f"votes-{number}.csv")
        files[-1].write_text(f"pair,vote\n{lines}")
    return CliRunner().invoke(count_votes, [str(folder / "key.csv"), *map(str, files)]).output.strip()


def test_votes_count_for_the_method_on_that_side(tmp_path: Path) -> None:
    lines = counted(tmp_path, "01,left\n02,Right\n03,equal\n", "01,right\n02,right\n03,\n").splitlines()
    assert lines[0].startswith("| degradation | caflow x4-real | real-esrgan x4plus | equal | preferred |")
    assert lines[2].startswith("| blur3 | 3 | 1 | 0 | 0.75 | 0.3006 | 0.9544 |")  # Wilson's interval of 3 in 4
    assert lines[3].startswith("| noise5 | 0 | 0 | 1 |  |")
    assert lines[4].startswith("| all | 3 | 1 | 1 | 0.75 |")


def test_wrong_votes_are_refused(tmp_path: Path) -> None:
    assert "each pair may have one line" in " ".join(counted(tmp_path, "01,left\n01,right\n").split())
    assert "got 01, better" in " ".join(counted(tmp_path, "01,better\n").split())
