"""Models that complete images: what is known stays, bit by bit, and likelihoods count what is drawn alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from commands import caflow, image_report, json_lines_of, messages, score_report
from numpy.typing import NDArray
from small_models import COMPLETING, small_model
from tiny import photograph

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.input_files import HAS_COLOURS
from caflow_deploy.images.photographs import Photograph, pairs_of
from caflow_deploy.jobs.image_folder import RESULTS
from caflow_runtime.completion import color_hints, filling
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.completion.color_space import recolored, rgb_to_ycbcr
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.errors import InputError
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.named_inputs import prepare_condition
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training.completion_tasks import ColorHints, MaskedInpainting

HEIGHT, WIDTH = 50, 71
RED, GREEN = (200, 40, 40), (40, 170, 60)
Picture = NDArray[np.uint8]


@pytest.fixture
def image(photographs: Path) -> Picture:
    return photograph(photographs, 0, HEIGHT, WIDTH)


@pytest.fixture
def hole() -> NDArray[np.bool_]:
    """A hole in the upper left, and a few pixels on the right."""
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[3:12, 5:20] = hole[20:22, 60:64] = True
    return hole


@pytest.fixture(scope="module")
def inpainting(completing: dict[str, Path]) -> Iterator[Pipeline]:
    with load(completing["masked-inpainting"], backend="cpu") as pipe:
        yield pipe


@pytest.fixture(scope="module")
def coloring(completing: dict[str, Path]) -> Iterator[Pipeline]:
    with load(completing["color-hints"], backend="cpu") as pipe:
        yield pipe


def hints_of(image: Picture) -> Picture:
    height, width = image.shape[:2]
    return draw_hints(height, width, [Point(10, 10, RED), Point(50, 30, GREEN)])


@pytest.mark.parametrize("task", [MaskedInpainting(smooth_share=1.0), ColorHints()], ids=lambda task: task.task)
def test_samples_have_their_density_and_known_values(task: MaskedInpainting | ColorHints, photographs: Path) -> None:
    model = small_model(task=task, **COMPLETING)
    target = task.target_of(photograph(photographs, 1, 32, 48))
    given = task.degrade(target, np.random.default_rng(3))
    condition = torch.from_numpy(given).permute(2, 0, 1)[None].double()
    with torch.no_grad():
        sample = model.sample(condition, temperature=0.8)
        density = model.log_density(sample.images, condition)
        encoded = model.encode(condition)
        back = model.decode(model.encode_target(sample.images, encoded), encoded).images
    torch.testing.assert_close(density.per_level, sample.log_likelihood.per_level, rtol=1e-10, atol=1e-6)
    torch.testing.assert_close(back, sample.images, rtol=0, atol=1e-8)
    known = encoded.known
    assert known is not None
    assert 0 < known.float().mean() < 1
    completed = encoded.completed(sample.images)[0].permute(1, 2, 0).floor().numpy()
    is_known = known[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(completed[is_known], target[is_known])


def test_only_the_hole_is_drawn_and_counts(inpainting: Pipeline, image: Picture, hole: NDArray[np.bool_]) -> None:
    condition = inpainting.prepare(image, mask=hole)
    best = inpainting.best_of(condition, n=3)
    np.testing.assert_array_equal(best.images[0][~hole], image[~hole])
    assert (best.images[0][hole] != image[hole]).any(1).mean() > 0.5
    assert best.dims[0] == 3 * hole.sum()
    spread = np.asarray(best.log_likelihood_map[0])
    far = cv2.dilate(hole.astype(np.uint8), np.ones((9, 9))) == 0  # cells that the hole does not touch
    assert not spread[far].any()
    assert spread.sum() == pytest.approx(best.log_likelihood[0], rel=1e-5)
    assert inpainting.consistency.psnr(best.images[0], condition) == 100


def test_windows_without_a_hole_do_not_run(inpainting: Pipeline, image: Picture, hole: NDArray[np.bool_]) -> None:
    hole[20:22] = False
    with load(inpainting.folder, backend="cpu", tiling=Tiling(32 * 32, 8)) as tiled:
        condition = tiled.prepare(image, mask=hole)
        ran: list[int] = []
        best = tiled.best_of(condition, n=1, show=lambda _, count: ran.append(count))
        assert len(tiled.tiles(condition)) == ran[0] < len(tiled.tiles(tiled.prepare(image, mask=~hole)))
        np.testing.assert_array_equal(best.images[0][~hole], image[~hole])
        assert tiled.score(best.images, condition).dims[0] == 3 * hole.sum()


def test_a_mask_without_a_hole_and_a_wrong_condition_are_refused(inpainting: Pipeline, image: Picture) -> None:
    with pytest.raises(InputError, match="nothing to draw: give a mask with a hole"):
        inpainting.best_of(inpainting.prepare(image))
    with pytest.raises(InputError, match=r"expected an array \(H, W, 4\).*Pipeline.prepare makes it"):
        inpainting.best_of(image)


def test_known_values_of_a_target_do_not_count(inpainting: Pipeline, image: Picture, hole: NDArray[np.bool_]) -> None:
    """Files in lossy formats hold other values than their source."""
    condition = inpainting.prepare(image, mask=hole)
    drawn = inpainting.best_of(condition, n=1).images[0]
    changed = np.where(hole[..., None], drawn, 255 - drawn)
    scores = [inpainting.score(target, condition).bits_per_dim[0] for target in (drawn, changed)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("most", [color_hints.MAX_PIXELS, 300])
def test_hints_fill_what_looks_alike(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At half the size as well, where an image is too large."""
    monkeypatch.setattr(color_hints, "MAX_PIXELS", most)
    luma = np.full((21, 31), 60, np.uint8)
    luma[:, 16:] = 180
    known, chroma = np.zeros(luma.shape, bool), np.zeros((21, 31, 2), np.uint8)
    known[5, 3] = known[9, 25] = True
    chroma[5, 3], chroma[9, 25] = (90, 160), (150, 100)
    spread = color_hints.propagate(luma, chroma, known)
    assert np.abs(spread[:, :15].astype(int) - (90, 160)).max() <= 1
    assert np.abs(spread[:, 17:].astype(int) - (150, 100)).max() <= 1
    assert (color_hints.propagate(luma, chroma, np.zeros_like(known)) == 128).all()


def test_pixels_that_no_hint_reaches_become_grey() -> None:
    """At both ends of a ramp, the weights of the neighbours inside are 0 in float64."""
    luma = np.tile(np.arange(12, dtype=np.uint8) * 10, (12, 1))
    known = np.zeros(luma.shape, bool)
    known[0, 1] = True
    chroma = np.where(known[..., None], np.uint8(200), np.uint8(0)).repeat(2, 2)
    spread = color_hints.propagate(luma, chroma, known)
    assert (spread[:, 1] == 200).all()
    assert (spread[:, [0, -1]] == 128).all()


def test_luma_is_kept_and_samples_agree_with_their_hints(coloring: Pipeline, image: Picture) -> None:
    grey = np.repeat(rgb_to_ycbcr(image)[..., :1], 3, 2)
    condition = coloring.prepare(grey, hints=hints_of(grey))
    assert condition.shape == (-(-HEIGHT // 4), -(-WIDTH // 4), 4)
    drawn = coloring.sample(condition, n=3, temperature=1.0)
    results = [coloring.finish(grey, one) for one in drawn.images[0]]
    wanted = rgb_to_ycbcr(np.array([[RED, GREEN]], np.uint8))[0, :, 1:]
    everywhere = np.where(np.arange(WIDTH)[None, :, None] < 40, wanted[0], wanted[1])
    asked = recolored(grey, np.broadcast_to(everywhere, (HEIGHT, WIDTH, 2)))
    for chroma, result in zip(drawn.images[0], results, strict=True):
        np.testing.assert_array_equal(chroma[[10 // 4, 30 // 4], [10 // 4, 50 // 4], 1:], wanted)
        np.testing.assert_array_equal(result[[10, 30], [10, 50]], asked[[10, 30], [10, 50]])
        assert result.shape == image.shape
        assert np.abs(rgb_to_ycbcr(result)[..., 0].astype(int) - grey[..., 0]).max() <= 1
    assert drawn.dims[0] < 2 * condition[..., 0].size
    assert (results[0] != results[1]).any()


def test_results_of_sixteen_bits_keep_sixteen_bits(coloring: Pipeline, image: Picture, tmp_path: Path) -> None:
    deep = np.repeat(rgb_to_ycbcr(image)[..., :1], 3, 2).astype(np.uint16) * 257 + 100
    write_image(tmp_path / "in.png", deep)
    caflow("image", tmp_path / "in.png", "-o", tmp_path / "out.png", "--model", coloring.folder, "-n", 1, code=0)
    result = read_image(tmp_path / "out.png")
    luma = result.pixels(16) @ np.array([0.299, 0.587, 0.114])
    assert result.bits == 16
    assert np.abs(luma - deep[..., 0]).max() <= 2


def test_targets_of_a_model_of_chroma_are_luma_and_chroma(coloring: Pipeline, tmp_path: Path) -> None:
    """So they are what the flow sees when an int8 export learns its ranges from photographs."""
    write_image(tmp_path / "red.png", np.full((64, 64, 3), RED, np.uint8))
    (pair, *_) = pairs_of(Photograph("red", tmp_path / "red.png"), coloring.manifest.model, np.copy, [64])
    assert pair.target.shape == pair.condition.shape == (16, 16, 3)
    assert (pair.target == rgb_to_ycbcr(np.full((16, 16, 3), RED, np.uint8))).all()


def test_files_of_hints(completing: dict[str, Path], image: Picture, tmp_path: Path) -> None:
    given, hints = tmp_path / "in.png", hints_of(image)
    write_image(given, image)
    write_image(tmp_path / "hints.png", hints[..., :3], hints[..., 3])
    color = (completing["color-hints"], "--hints", tmp_path / "hints.png")
    report = image_report(given, tmp_path / "out.png", *color, "--suggest-hints", 3)
    assert len(report["suggested_hints"]) == 3
    assert report["warnings"] == [HAS_COLOURS]
    assert (tmp_path / "out-suggested.png").exists()
    assert "log_likelihood" in score_report(tmp_path / "out.png", given, *color)
    for options, said in (
        (["--model", completing["masked-inpainting"]], "fills in what a mask marks: also give --mask"),
        (["--model", completing["color-hints"], "--hints", given], "must be opaque where"),
        (["--hints", tmp_path / "hints.png", "--mask", given], "has no input 'hints'"),
    ):
        assert said in caflow("image", given, *options, "-o", tmp_path / "wrong.png").stderr


def test_a_filling_depends_on_image_hole_and_seed_alone(image: Picture, hole: NDArray[np.bool_]) -> None:
    changed = image.copy()
    changed[hole] = 0
    for fill in (filling.fill, filling.fill_with_patches):
        once = fill(image, hole, 7)
        np.testing.assert_array_equal(once, fill(changed, hole, 7))
        np.testing.assert_array_equal(once[~hole], image[~hole])
    assert (filling.fill_with_patches(image, hole, 7) != filling.fill_with_patches(image, hole, 8)).any()
    assert filling.fill_smoothly(image, np.ones_like(hole)).mean() == 128


def test_hints_are_suggested_inside_the_image_and_not_twice(image: Picture) -> None:
    places = suggest_hints(image, 30)
    assert len(set(places)) == 30
    assert all(0 <= x < WIDTH and 0 <= y < HEIGHT for x, y in places)
    assert len(suggest_hints(image[:2, :3], 30)) == 6
    with pytest.raises(InputError, match="hints: expected an array of shape"):
        suggest_hints(image, 5, hints_of(image)[1:])


HOLE = slice(9, 25), slice(20, 37)


def write_mask(path: Path, hole: tuple[slice, slice] = HOLE, white: int = 255) -> Path:
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[hole] = white
    write_image(path, mask)
    return path


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """Folder with two photographs in `in`, and the mask of each in `masks`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    for number, name in enumerate(("a", "b")):
        write_image(tmp_path / "in" / f"{name}.png", photograph(photographs, number, HEIGHT, WIDTH))
        write_mask(tmp_path / "masks" / f"{name}.bmp")
    return tmp_path


def fill(inpainting: Pipeline, *arguments: object) -> list[str]:
    """Return the lines on standard output."""
    return caflow("image", *arguments, "--model", inpainting.folder, "-n", 2, code=0).stdout.splitlines()


def test_a_folder_has_a_mask_for_each_and_a_new_mask_is_done_again(inpainting: Pipeline, folder: Path) -> None:
    given = [folder / "in", "--mask", folder / "masks", "-o", folder / "out"]
    assert len(fill(inpainting, *given)) == 2
    assert fill(inpainting, *given) == [f"{folder / 'out'} is already complete"]
    before = (folder / "out" / "b.png").read_bytes()
    write_mask(folder / "masks" / "b.bmp", (slice(0, 16), slice(0, 16)))
    (again,) = fill(inpainting, *given)
    assert again.startswith(f"{folder / 'in' / 'b.png'} → ")
    assert (folder / "out" / "b.png").read_bytes() != before
    write_mask(folder / "one.png")
    assert len(fill(inpainting, folder / "in", "--mask", folder / "one.png", "-o", folder / "out")) == 2
    assert {line["mask"] for line in json_lines_of(folder / "out" / RESULTS)} == {str(folder / "one.png")}


def test_what_is_wrong_with_a_mask_is_said(inpainting: Pipeline, folder: Path) -> None:
    given, mask = folder / "in" / "a.png", folder / "masks" / "a.bmp"
    write_image(folder / "small.png", np.full((HEIGHT, WIDTH - 1, 3), 255, np.uint8))
    write_mask(folder / "dark.png", white=127)
    (folder / "masks" / "below").mkdir()
    write_mask(folder / "masks" / "below" / "b.png")
    for options, code, said in (
        ([given, "--mask", folder / "small.png"], 1, f"{given}: {folder / 'small.png'}: the mask must be as large"),
        (
            [given, "--mask", folder / "dark.png"],
            1,
            f"{given}: {folder / 'dark.png'}: the mask marks nothing: it has no",
        ),
        ([folder / "in", "--mask", folder / "masks"], 2, f"{folder / 'in' / 'b.png'}: expected one mask"),
        ([given, "--mask", mask, "--model", "x4-photo"], 2, "has no input 'mask'"),
        ([given, "--mask", mask, "-o", mask, "--force"], 2, f"{mask} is the mask of an image"),
    ):
        done = caflow("image", "--model", inpainting.folder, "-o", folder / "out", "-n", 1, *options, code=code)
        assert said in messages(done.stderr)[0]


def test_a_model_takes_only_the_inputs_that_its_bundle_names(inpainting: Pipeline, image: Picture) -> None:
    mask = np.ones((HEIGHT, WIDTH), np.bool_)
    for wrong in (mask.astype(np.uint8), mask[1:], None):
        with pytest.raises(InputError, match="mask: expected a bool array of the image's size"):
            prepare_condition(inpainting.manifest.model, image, {"mask": wrong})
    with pytest.raises(InputError, match="no input 'hints': it takes mask"):
        prepare_condition(inpainting.manifest.model, image, {"hints": mask})


def test_a_computation_that_fails_ends_one_image_of_a_folder(
    completing: dict[str, Path], image: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_in_the_dark(luma: Picture, *given: Any) -> Picture:
        if luma.mean() < 50:
            raise RuntimeError("Factor is exactly singular")
        return propagate(luma, *given)

    propagate = color_hints.propagate
    monkeypatch.setattr(color_hints, "propagate", fail_in_the_dark)
    height, width = image.shape[:2]
    hints = draw_hints(height, width, [Point(8, 8, RED)])
    for name, picture in (("a.png", image // 8), ("b.png", 255 - image // 8)):
        for folder, written in (("in", picture), ("hints", hints)):
            (tmp_path / folder).mkdir(exist_ok=True)
            PIL.Image.fromarray(written).save(tmp_path / folder / name)
    given = ["image", tmp_path / "in", "-o", tmp_path / "out", "--hints", tmp_path / "hints", "-n", 1]
    done = caflow(*given, "--model", completing["color-hints"], code=1)
    assert "a.png: a computation failed: Factor is exactly singular" in done.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["b.png"]
