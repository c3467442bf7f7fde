"""Results of other sizes than the model's: the computation of sizes, the resampling, reports, and 16 bits."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import caflow, image_report, json_lines_of, score_report
from numpy.typing import NDArray
from tiny import photograph, stored

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.jobs.image_folder import RESULTS
from caflow_runtime import linear_light
from caflow_runtime.errors import InputError
from caflow_runtime.linear_light import reduce, reduce_alpha, resample, resample_alpha
from caflow_runtime.ood.consistency import enlarge_image, psnr
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.sizes import FinalSize, Size

REFUSED = 0.999
"""Value of α at which every sample is untypical."""


SIZES: list[tuple[Size, tuple[int, int], int, tuple[int, int, int]]] = [
    # size, (width, height) of the source, scale of the model, (width, height, passes) of the result
    (Size(2), (112, 75), 4, (224, 150, 1)),
    (Size(1.5), (112, 75), 4, (168, 113, 1)),  # 112.5 is rounded up
    (Size(1.25), (10, 10), 4, (13, 13, 1)),  # 12.5 is rounded up, not to even
    (Size(1.005), (100, 300), 4, (101, 302, 1)),  # 100.5 and 301.5, but less in binary floating point
    (Size(6), (112, 75), 4, (672, 450, 1)),  # the largest factor of one pass
    (Size(6.01), (112, 75), 4, (673, 451, 2)),
    (Size(3.1), (20, 30), 2, (62, 93, 2)),
    (Size(1.2), (1, 1), 4, (1, 1, 0)),
    (Size(3, multiple=2), (33, 17), 4, (100, 52, 1)),  # 99 and 51 are rounded up to even numbers
    (Size(width=801), (400, 300), 4, (801, 601, 1)),  # 600.75
    (Size(width=1), (400, 100), 4, (1, 1, 0)),
    (Size(width=800, multiple=2), (401, 300), 4, (800, 598, 1)),  # 598.5
    (Size(height=601), (400, 300), 4, (801, 601, 1)),  # 801.33
    (Size(height=1000), (30, 40), 4, (750, 1000, 3)),
    (Size(width=500, height=100), (400, 300), 4, (500, 100, 1)),  # one side is enlarged, the other one reduced
    (Size(fit=(1920, 1080)), (960, 640), 4, (1620, 1080, 1)),
    (Size(fit=(1920, 1080)), (4000, 3000), 4, (1440, 1080, 0)),
    (Size(fit=(1921, 1081), multiple=2), (481, 271), 4, (1916, 1080, 1)),  # 1916.9; 1920 would be distorted
    (Size(fit=(100, 100)), (1000, 1), 4, (100, 1, 0)),
]


@pytest.mark.parametrize(("size", "source", "scale", "expected"), SIZES)
def test_sizes_are_exact(size: Size, source: tuple[int, int], scale: int, expected: tuple[int, int, int]) -> None:
    width, height, passes = expected
    assert size.of(source[1], source[0], scale) == FinalSize(height, width, passes)


def test_a_box_is_filled_as_far_as_the_aspect_ratio_allows() -> None:
    rng = np.random.default_rng(0)
    for width, height, box_width, box_height in rng.integers(1, 300, (2000, 4)).tolist():
        for multiple in (1, 2):
            box = tuple(max(multiple, side) for side in (box_width, box_height))
            final = Size(fit=box, multiple=multiple).of(height, width, 4)
            inner = tuple(side - side % multiple for side in box)
            assert final.width <= inner[0]
            assert final.height <= inner[1]
            assert final.width == inner[0] or final.height == inner[1]
            assert final.width % multiple == final.height % multiple == 0
            factor = min(Fraction(inner[0], width), Fraction(inner[1], height))
            assert abs(final.width - factor * width) <= Fraction(multiple, 2) or final.width == multiple


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected exactly one of a scale, a size"),
        ({"scale": 2.0, "width": 5}, "expected exactly one of"),
        ({"height": 2, "fit": (5, 5)}, "expected exactly one of"),
        ({"scale": 1.0}, "scale must be a number that is above 1 and at most 64 or None; got 1"),
        ({"scale": float("nan")}, "scale must be a number"),
        ({"scale": 65}, "scale must be a number"),
        ({"width": 0}, "width must be an integer from 1"),
        ({"fit": (5, 2**20 + 1)}, "fit must be an integer from 1 to 1048576"),
        ({"width": 853, "multiple": 2}, "width must be a multiple of 2"),
    ],
)
def test_contradictory_sizes_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Size(**fields)


def test_a_size_that_takes_too_many_pixels_is_refused() -> None:
    with pytest.raises(InputError, match=r"requires 5 passes of a ×4 model and images of 1\.049e\+04 megapixels"):
        Size(width=40_000).of(100, 100, 4)
    with pytest.raises(InputError, match=r"1 pass of a ×4 model and images of 1600 megapixels"):
        Size(width=40_000).of(8000, 8000, 4)  # the model's image alone would be small enough
    assert Size(width=30_000).of(2**15, 2**16, 4).passes == 0  # no limit for reduction


def test_only_models_that_enlarge_have_results_of_other_sizes() -> None:
    with pytest.raises(InputError, match="requires a model that enlarges"):
        Size(2.0).check_fits(1)
    Size(2.0).check_fits(4)


STRIPES = np.zeros((40, 60, 3), np.uint8)
STRIPES[:, ::2] = 255
HALF_THE_LIGHT = 188
"""sRGB value, in 8 bits, of half the light of white. The mean of the values of black and white would be 128."""


def test_fine_stripes_are_reduced_to_the_grey_of_their_mean_light() -> None:
    for image, scale, tolerance in (
        (STRIPES, 1, 1),
        (STRIPES * np.uint16(257), 257, 257),
        (STRIPES + np.float32(0.5), 1, 1),
    ):
        small = reduce(image, 10, 17)  # a width at which unfiltered stripes alias
        assert small.dtype == image.dtype
        assert np.abs(small[2:-2, 2:-2] / scale - HALF_THE_LIGHT).max() <= tolerance + 0.5 * (image.dtype == np.float32)
    alpha = reduce_alpha(np.ascontiguousarray(STRIPES[..., 0]), 10, 17)
    assert np.abs(alpha[2:-2, 2:-2].astype(int) - 128).max() <= 1  # alpha is linear


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(120, 150), (120, 60), (45, 150)])
def test_resampling_and_back_is_nearly_lossless(photographs: Path, size: tuple[int, int], dtype: Any) -> None:
    """The result shows the same picture, whatever its type and size: brought back to its size, it is nearly equal."""
    picture = cv2.GaussianBlur(photograph(photographs, 2, 90, 120), (0, 0), 2)
    white, black = linear_light.VALUES[np.dtype(dtype)]
    given: NDArray[Any] = (picture * (white / 255) + black).astype(dtype)
    found = resample(given, *size)
    assert found.shape == (*size, 3)
    assert found.dtype == dtype
    assert psnr(resample(found, 90, 120) * (255 / white), given * (255 / white)) > 40
    alpha = resample_alpha(np.ascontiguousarray(picture[..., 0]), *size)
    assert psnr(resample_alpha(alpha, 90, 120), picture[..., 0]) > 40


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "small.png", photograph(photographs, 1, 9, 12))
    return tmp_path / "in" / "small.png"


@pytest.mark.parametrize("scale", [2, 5])
@pytest.mark.parametrize("options", [[], ["--consistent"]], ids=str)
def test_an_image_of_another_size_is_the_models_image_resampled(
    source: Path, calibrated: Path, tmp_path: Path, scale: int, options: list[str]
) -> None:
    """It is reduced, or enlarged by Lanczos' filter. Likelihood and consistency are those of the model's image, and the
    file is not judged."""
    report = image_report(source, tmp_path / "out.png", calibrated, "--scale", scale, *options)
    with load(calibrated, "cpu") as pipe:
        best = pipe.best_of(read_image(source).rgb, n=2, consistent=bool(options))
    larger = cv2.resize(best.images[0], (60, 45), interpolation=cv2.INTER_LANCZOS4)
    wanted = reduce(best.images[0], 18, 24) if scale == 2 else larger
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").rgb, wanted)
    assert report["log_likelihood"] == pytest.approx(best.log_likelihood[0])
    assert report["likelihood_of"] == {"width": 48, "height": 36, "bits": 8, "passes": 1}
    assert (report["outcome"], report["image_typicality"]) == ("unjudged", None)
    if best.consistency is not None:
        assert report["consistency_db"] == pytest.approx(best.consistency[0])


def test_the_second_pass_enlarges_the_best_sample_of_the_first(source: Path, calibrated: Path, tmp_path: Path) -> None:
    """Maps have the size of the second pass."""
    options = ["--height", 60, "--keep-all", "--sheet", "--maps"]
    report = image_report(source, tmp_path / "out.png", calibrated, *options)
    with load(calibrated, "cpu") as pipe:
        second = pipe.sample(pipe.best_of(read_image(source).rgb, n=2).images[0], n=2)
    for name, picture in zip(("out.png", "out-2.png"), second.images[0], strict=True):
        np.testing.assert_array_equal(read_image(tmp_path / name).rgb, reduce(picture, 60, 80))
    assert report["likelihood_of"] == {"width": 192, "height": 144, "bits": 8, "passes": 2}
    assert report["log_likelihood"] == pytest.approx(second.log_likelihood[0, 0])
    assert read_image(tmp_path / "out-likelihood.png").rgb.shape == (144, 192, 3)
    assert (tmp_path / "out-sheet.png").exists()


def test_a_large_source_is_reduced_without_the_model(photographs: Path, calibrated: Path, tmp_path: Path) -> None:
    """In the same folder, the model enlarges the image that is smaller than the result."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pictures = {"small": photograph(photographs, 1, 9, 12), "large": photograph(photographs, 2, 60, 90)}
    for name, picture in pictures.items():
        write_image(folder / f"{name}.png", picture)
    command = ["image", folder, "-o", out, "--model", calibrated, "-n", 1, "--fit", "40x30", "--sheet"]
    done = caflow(*command, code=0)
    assert "large.png  not enlarged: the input is not smaller than the result, so there are no samples" in done.stdout
    np.testing.assert_array_equal(read_image(out / "large.png").rgb, reduce(pictures["large"], 27, 40))
    assert read_image(out / "small.png").rgb.shape == (30, 40, 3)
    lines = {Path(line["input"]).stem: line for line in json_lines_of(out / RESULTS)}
    assert (lines["large"]["outcome"], lines["large"]["log_likelihood"]) == ("reduced", None)
    assert "likelihood_of" not in lines["large"]
    assert "is already complete" in caflow(*command).stdout  # a reduced image has no sheet


def test_a_bicubic_replacement_has_the_requested_size(source: Path, calibrated: Path, tmp_path: Path) -> None:
    """The source, enlarged by a filter, replaces the image. This holds for one pass and for two."""
    options = ["--min-typicality", REFUSED, "--otherwise", "bicubic", "--redraws", 0]
    for name, scale, factor in (("one", 3, 4), ("two", 8, 16)):
        report = image_report(source, tmp_path / f"{name}.png", calibrated, "--scale", scale, *options)
        wanted = reduce(enlarge_image(read_image(source).rgb, factor), 9 * scale, 12 * scale)
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png").rgb, wanted)
        assert (report["outcome"], report["log_likelihood"]) == ("bicubic", None)
        assert "likelihood_of" not in report
    marked = image_report(source, tmp_path / "marked.png", calibrated, "--scale", 8, *options[:2], "--redraws", 0)
    assert marked["outcome"] == "rejected"


@pytest.fixture
def deep_source(photographs: Path, tmp_path: Path) -> Path:
    picture = photograph(photographs, 1, 9, 12)
    assert cv2.imwrite(str(tmp_path / "deep.tif"), picture[..., ::-1].astype(np.uint16) * 257)
    return tmp_path / "deep.tif"


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("more", [[], ["--consistent"], ["--keep-all"]])
def test_an_input_of_16_bits_gives_a_result_of_16_bits_that_rounds_to_that_of_8(
    deep_source: Path, calibrated: Path, tmp_path: Path, suffix: str, more: list[str]
) -> None:
    """The values are more exact than the 8-bit image, and round to it. The likelihood belongs to the 8-bit image."""
    out = tmp_path / f"out{suffix}"
    report = image_report(deep_source, out, calibrated, *more)
    assert (report["input_bits"], report["output_bits"]) == (16, 16)
    assert report["likelihood_of"] == {"width": 48, "height": 36, "bits": 8, "passes": 1}
    deep = stored(out)
    assert deep.dtype == np.uint16
    assert len(np.unique(deep)) > 1000
    eight = image_report(deep_source, tmp_path / "eight.png", calibrated, "--bits", 8, *more)
    assert eight["output_bits"] == 8
    assert "likelihood_of" not in eight
    assert eight["log_likelihood"] == report["log_likelihood"]
    np.testing.assert_array_equal(read_image(out).rgb, read_image(tmp_path / "eight.png").rgb)
    for scale in (2, 5):
        other = image_report(deep_source, tmp_path / f"other{suffix}", calibrated, "--scale", scale, "--force", *more)
        assert other["output_bits"] == 16
        wanted = resample(np.ascontiguousarray(deep[..., ::-1]), 9 * scale, 12 * scale)
        np.testing.assert_allclose(stored(tmp_path / f"other{suffix}")[..., ::-1], wanted)


def test_bits_follow_source_and_option(deep_source: Path, source: Path, calibrated: Path, tmp_path: Path) -> None:
    assert image_report(deep_source, tmp_path / "a.jpg", calibrated)["output_bits"] == 8  # a JPEG has 8 bits
    assert image_report(source, tmp_path / "b.png", calibrated)["output_bits"] == 8
    assert image_report(source, tmp_path / "c.png", calibrated, "--bits", 16)["output_bits"] == 16
    assert len(np.unique(stored(tmp_path / "c.png"))) > 1000
    reduced = image_report(deep_source, tmp_path / "d.png", calibrated, "--width", 6)
    assert (reduced["outcome"], reduced["output_bits"]) == ("reduced", 16)
    assert len(np.unique(stored(tmp_path / "d.png"))) > 60
    done = caflow("image", deep_source, "-o", tmp_path / "e.jpg", "--model", calibrated)
    assert "reduced from 16 to 8 bits" in done.stdout


def test_a_result_is_judged_as_it_is_read_again(deep_source: Path, calibrated: Path, tmp_path: Path) -> None:
    """The verdict of 16 bits, of grey and of transparent images is about the 8-bit image that `caflow score` reads."""
    picture = stored(deep_source)
    transparent = np.dstack([picture // 257, np.eye(*picture.shape[:2], dtype=np.uint16) * 255]).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "grey.png"), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    assert cv2.imwrite(str(tmp_path / "transparent.png"), transparent)
    for given, bits in ((deep_source, 16), (tmp_path / "grey.png", 16), (tmp_path / "transparent.png", 8)):
        out = tmp_path / f"{given.stem}-out.png"
        report = image_report(given, out, calibrated, "--judge", "image", "--min-typicality", 0.02)
        scored = score_report(out, given, calibrated)
        assert report["output_bits"] == bits
        assert report["image_typicality"] == scored.get("image_typicality")
