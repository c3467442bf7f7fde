"""Masks as editors save them: what is painted is filled, and what is not clear is refused."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from commands import caflow, image_report, messages
from numpy.typing import NDArray
from tiny import photograph

from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.input_files import input_of
from caflow_deploy.images.masks import MaskMarks
from caflow_runtime.errors import UnreadableImage

HEIGHT, WIDTH = 60, 80
RED, YELLOW = (224, 32, 32), (250, 220, 10)
Picture = NDArray[np.uint8]
Hole = NDArray[np.bool_]


@pytest.fixture
def image(photographs: Path) -> Picture:
    return photograph(photographs, 0, HEIGHT, WIDTH)


@pytest.fixture
def stroke() -> Picture:
    """A stroke of a soft brush: opacity 0…255."""
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.line(drawn, (10, 10), (60, 40), 255, 6)
    return np.asarray(cv2.GaussianBlur(drawn, (5, 5), 0))


def layer(colour: Picture | tuple[int, int, int], alpha: Picture, under: int = 0) -> PIL.Image.Image:
    """Return a layer. `under` is the colour of what is wholly transparent, which editors choose differently."""
    rgb = np.broadcast_to(np.asarray(colour, np.uint8), (*alpha.shape, 3)).copy()
    rgb[alpha == 0] = under
    return PIL.Image.fromarray(np.dstack([rgb, alpha]))


def unpremultiplied(colour: tuple[int, int, int], alpha: Picture) -> PIL.Image.Image:
    """Return a layer of an editor that keeps colours multiplied by opacity, so that they are rounded."""
    premultiplied = np.rint(np.asarray(colour) * alpha[..., None] / 255)
    rgb = np.where(alpha[..., None] > 0, premultiplied * 255 / np.maximum(alpha[..., None], 1), 0)
    return PIL.Image.fromarray(np.dstack([np.clip(np.rint(rgb), 0, 255), alpha]).astype(np.uint8))


def found(mask: PIL.Image.Image | Picture, image: Picture, marks: MaskMarks | None = None) -> Hole:
    return input_of("mask", mask, image, marks)


def test_paint_marks_in_any_colour_and_from_any_editor(image: Picture, stroke: Picture) -> None:
    painted = stroke >= 128
    with_yellow = np.full((HEIGHT, WIDTH, 3), RED, np.uint8)
    with_yellow[:, 40:] = YELLOW
    for mask in (
        layer(RED, stroke),  # GIMP: transparent pixels are black
        layer(RED, stroke, under=255),  # Photoshop: they are white
        unpremultiplied(RED, stroke),  # Krita
        unpremultiplied((20, 30, 40), stroke),
        layer((255, 255, 255), stroke),
        layer((0, 0, 0), stroke),
        layer(with_yellow, stroke),
    ):
        np.testing.assert_array_equal(found(mask, image), painted)


def test_white_marks_where_nothing_is_transparent(image: Picture, stroke: Picture) -> None:
    white = np.repeat(stroke[..., None], 3, 2)
    opaque = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for mask in (
        white,
        np.dstack([white, opaque]),
        np.dstack([white, opaque // 3]),
        PIL.Image.fromarray(stroke >= 128),
    ):
        np.testing.assert_array_equal(found(mask, image), stroke >= 128)
    np.testing.assert_array_equal(found(255 - white, image, "black"), stroke > 127)


def test_what_was_erased_from_the_image_is_filled(image: Picture, stroke: Picture) -> None:
    for under in (0, 255):
        np.testing.assert_array_equal(found(layer(image, 255 - stroke, under), image), stroke > 127)
    compressed = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(found(layer(np.asarray(compressed, np.uint8), 255 - stroke), image), stroke > 127)


def test_a_mask_that_may_be_inverted_is_refused(image: Picture, stroke: Picture) -> None:
    black_on_white, flattened = np.repeat(255 - stroke[..., None], 3, 2), np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    flattened[stroke >= 128] = RED
    twice = np.full((HEIGHT, WIDTH), 0, np.uint8)
    twice[10:40, 10:60], twice[20:26, 10:60] = 100, 160
    seen_through = np.dstack([flattened, np.where(stroke >= 128, np.uint8(255), np.uint8(128))])
    other = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)  # part of another photograph
    for mask, said in (
        (black_on_white, "they cover 9[0-9] % of this mask, so it may be inverted: give `mask_marks` black"),
        (layer(RED, 255 - stroke), "opaque pixels mark what to fill.*give `mask_marks` transparent"),
        (layer(image, stroke), "transparent pixels mark what to fill.*give `mask_marks` opaque"),  # a copied part
        (layer(other, stroke), "neither the image nor paint.*give `mask_marks` opaque"),
        (flattened, "looks like a photograph, not like a mask"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "marks nothing: it has no white pixel"),
        (layer(RED, stroke // 3), "most of the paint is less than half opaque"),
        (layer(RED, twice), "most of the paint is less than half opaque"),  # faint, but where it was painted twice
        (seen_through, "looks like a photograph"),
    ):
        with pytest.raises(UnreadableImage, match=said):
            found(mask, image)
    assert found(black_on_white, image, "white").mean() > 0.9
    np.testing.assert_array_equal(found(layer(other, stroke), image, "opaque"), stroke >= 128)
    np.testing.assert_array_equal(found(layer(other, stroke), image, "transparent"), stroke < 128)


def test_a_line_says_how_much_is_filled(
    completing: dict[str, Path], image: Picture, stroke: Picture, tmp_path: Path
) -> None:
    given, mask, model = tmp_path / "in.png", tmp_path / "mask.png", completing["masked-inpainting"]
    write_image(given, image)
    write_image(mask, np.repeat(255 - stroke[..., None], 3, 2))
    options = ("--model", model, "-n", 1, "-o", tmp_path / "out")
    refused = caflow("image", given, "--mask", mask, *options, code=1)
    assert "give --mask-marks black if these mark" in messages(refused.stderr)[0]
    done = caflow("image", given, "--mask", mask, "--mask-marks", "black", *options, code=0)
    share = float((stroke > 127).mean())
    assert f"fills {100 * share:.1f} % of the image" in done.stdout
    report = image_report(given, tmp_path / "again.png", model, "--mask", mask, "--mask-marks", "black")
    assert report["filled"] == pytest.approx(share)
