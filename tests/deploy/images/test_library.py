"""The library: what the commands do with one image, a program does in three lines, and writes the same bytes."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from commands import caflow, image_report
from msgspec import structs
from tiny import photograph

import caflow_deploy
from caflow_deploy import DrawOptions, OutputOptions, Point, RunOptions, Size
from caflow_deploy.images import open_models
from caflow_deploy.images.image_files import read_image
from caflow_runtime.errors import CaflowError, InputError, TooLarge, UnreadableImage

TWO = DrawOptions(n=2)


@pytest.fixture
def rgb(photographs: Path) -> Any:
    return photograph(photographs, 0, 9, 12)


def turned(path: Path, rgb: Any) -> Path:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the orientation of a photograph that was taken upright
    PIL.Image.fromarray(rgb).save(path, exif=exif, quality=100)
    return path


def with_alpha(path: Path, rgb: Any) -> Path:
    PIL.Image.fromarray(np.dstack([rgb, np.tri(*rgb.shape[:2], dtype=np.uint8) * 255])).save(path)
    return path


def deep(path: Path, rgb: Any) -> Path:
    cv2.imwrite(str(path), rgb[..., ::-1].astype(np.uint16) * 257 + np.arange(12, dtype=np.uint16)[:, None])
    return path


def grey(path: Path, rgb: Any) -> Path:
    PIL.Image.fromarray(rgb).convert("L").save(path)
    return path


@pytest.mark.parametrize(
    ("make", "name", "result"),
    [
        (turned, "turned.jpg", "out.jpg"),
        (turned, "turned.jpg", "out.webp"),
        (with_alpha, "alpha.png", "out.png"),
        (deep, "deep.png", "out.tiff"),
        (deep, "deep.png", "out.jpg"),
        (grey, "grey.png", "out.png"),
    ],
)
def test_a_program_writes_the_bytes_of_the_command(
    make: Callable[[Path, Any], Path], name: str, result: str, rgb: Any, calibrated: Path, tmp_path: Path
) -> None:
    given = make(tmp_path / name, rgb)
    (tmp_path / "command").mkdir()
    report = image_report(given, tmp_path / "command" / result, calibrated)
    found = caflow_deploy.enlarge(given, model=calibrated, options=TWO)
    found.save(tmp_path / result)
    assert (tmp_path / result).read_bytes() == (tmp_path / "command" / result).read_bytes()
    assert found.bits_per_dim == pytest.approx(report["bits_per_dim"], rel=1e-6)
    assert found.typicality is not None
    assert found.typicality.value == pytest.approx(report["sample_typicality"], rel=1e-6)
    assert f"{found.typicality.value:.3f}" in str(found)


def test_sizes_sheets_and_all_samples_are_those_of_the_command(rgb: Any, calibrated: Path, tmp_path: Path) -> None:
    given = grey(tmp_path / "in.png", rgb)
    caflow("image", given, "-o", tmp_path / "a.png", "--model", calibrated, "-n", 2, "--width", 40, "--sheet", code=0)
    caflow("image", given, "-o", tmp_path / "b.png", "--model", calibrated, "-n", 2, "--width", 40, "--keep-all")
    kept = caflow_deploy.enlarge(
        given, model=calibrated, size=Size(width=40), options=TWO, output=OutputOptions(keep_all=True)
    )
    np.testing.assert_array_equal(np.asarray(kept.sheet()), read_image(tmp_path / "a-sheet.png").rgb)
    for sample, path in zip(kept.samples, (tmp_path / "b.png", tmp_path / "b-2.png"), strict=True):
        np.testing.assert_array_equal(np.asarray(sample), np.asarray(PIL.Image.open(path)))
    assert kept.uncertainty is not None
    assert kept.uncertainty.shape == (36, 48, 3)
    assert kept.log_likelihood_map is not None
    assert kept.log_likelihood_map.sum() == pytest.approx(kept.log_likelihood, rel=1e-4)


def test_an_image_may_be_a_path_bytes_a_file_a_pil_image_or_an_array(
    rgb: Any, calibrated: Path, tmp_path: Path
) -> None:
    for name, make in (("a.png", with_alpha), ("g.png", grey), ("t.png", turned)):
        path = make(tmp_path / name, rgb)
        contents = path.read_bytes()
        kinds: list[Any] = [path, str(path), contents, io.BytesIO(contents), PIL.Image.open(path)]
        if make is not turned:  # an array has no orientation
            kinds.append(np.asarray(PIL.Image.open(path)))
        first, *others = (caflow_deploy.enlarge(one, model=calibrated, options=TWO).image for one in kinds)
        for other in others:
            assert (other.mode, other.size) == (first.mode, first.size)
            np.testing.assert_array_equal(np.asarray(other), np.asarray(first))
    deepest = caflow_deploy.enlarge(rgb.astype(np.uint16) * 257, model=calibrated, options=TWO)
    assert deepest.pixels().dtype == np.uint16
    with pytest.raises(TooLarge, match="more than the limit"):
        caflow_deploy.enlarge(rgb, model=calibrated, run=RunOptions(max_pixels=20))
    for wrong, why in ((None, "got NoneType"), (rgb.astype(np.float32), "got float32"), (rgb[None], "of shape")):
        with pytest.raises(InputError, match=why):
            caflow_deploy.enlarge(wrong, model=calibrated)  # type: ignore[arg-type]
    with pytest.raises(UnreadableImage, match="not an image"):
        caflow_deploy.enlarge(b"text", model=calibrated)


def test_holes_are_filled_and_greys_coloured_as_by_the_command(
    rgb: Any, completing: dict[str, Path], tmp_path: Path
) -> None:
    rgb = np.ascontiguousarray(np.tile(rgb, (4, 3, 1)))
    PIL.Image.fromarray(rgb).save(tmp_path / "in.png")
    hole = np.zeros(rgb.shape[:2], bool)
    hole[8:14, 10:20] = True
    PIL.Image.fromarray(hole).save(tmp_path / "mask.png")
    hints = [Point(10, 10, "#d9b08c"), Point(25, 20, (40, 80, 160))]
    picture = np.zeros((*rgb.shape[:2], 4), np.uint8)
    cv2.circle(picture, (10, 10), 4, (0xD9, 0xB0, 0x8C, 255), cv2.FILLED)
    cv2.circle(picture, (25, 20), 4, (40, 80, 160, 255), cv2.FILLED)
    PIL.Image.fromarray(picture).save(tmp_path / "hints.png")
    inpainting, coloring = completing["masked-inpainting"], completing["color-hints"]
    image_report(tmp_path / "in.png", tmp_path / "a.png", inpainting, "--mask", tmp_path / "mask.png")
    image_report(tmp_path / "in.png", tmp_path / "b.png", coloring, "--hints", tmp_path / "hints.png")
    filled = caflow_deploy.inpaint(tmp_path / "in.png", hole, model=inpainting, options=TWO)
    coloured = caflow_deploy.colorize(tmp_path / "in.png", hints, model=coloring, options=TWO)
    np.testing.assert_array_equal(np.asarray(filled.image), read_image(tmp_path / "a.png").rgb)
    np.testing.assert_array_equal(np.asarray(coloured.image), read_image(tmp_path / "b.png").rgb)
    with pytest.raises(InputError, match="also give the mask"):
        caflow_deploy.draw(rgb, model=inpainting)
    with pytest.raises(InputError, match="does not enlarge"):
        caflow_deploy.enlarge(rgb, model=inpainting)
    assert set(caflow_deploy.__all__) == set(dir(caflow_deploy))
    with pytest.raises(InputError, match="does not colour"):
        caflow_deploy.colorize(rgb, model=inpainting)


def test_a_result_never_overwrites_unasked_and_says_what_it_lacks(rgb: Any, calibrated: Path, tmp_path: Path) -> None:
    found = caflow_deploy.enlarge(rgb, model=calibrated, options=TWO)
    found.save(tmp_path / "out.png")
    before = (tmp_path / "out.png").read_bytes()
    with pytest.raises(InputError, match="already exists"):
        found.save(tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == before
    found.save(tmp_path / "out.png", force=True)
    with pytest.raises(InputError, match="keep_all"):
        found.sheet()
    assert found.uncertainty is None
    with pytest.raises(InputError, match="k must be an integer from 0 to 0"):
        found.pixels(1)
    assert found._repr_png_().startswith(b"\x89PNG")
    reduced = caflow_deploy.enlarge(rgb, model=calibrated, size=Size(width=6))
    assert (reduced.outcome, reduced.bits_per_dim, reduced.image.size) == ("reduced", None, (6, 5))
    with pytest.raises(InputError, match="keep_all"):
        caflow_deploy.enlarge(
            rgb, model=calibrated, options=DrawOptions(2, min_typicality=0.01), output=OutputOptions(keep_all=True)
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": {"n": 1}}, "options must be DrawOptions"),
        ({"model": 4}, "model must be a path"),
        ({"output": {"bits": 12}}, "bits must be one of 8, 16 or None"),
        ({"output": {"keep_all": "no"}}, "keep_all must be True or False"),
        ({"output": {"judge_as": "jpg"}}, "judge_as must be one of"),
        ({"size": 40}, "size must be a Size"),
        ({"options": DrawOptions(judge="image"), "size": Size(width=40)}, "omit either judge or the size"),
        ({"run": {"max_pixels": 20}}, "more than the limit"),
    ],
)
def test_wrong_options_are_refused_by_name(given: dict[str, Any], message: str, rgb: Any, calibrated: Path) -> None:
    file, kinds = io.BytesIO(), {"output": OutputOptions, "run": RunOptions}
    PIL.Image.fromarray(rgb).save(file, "PNG")

    def enlarged() -> Any:
        made: dict[str, Any] = {name: kinds[name](**value) if name in kinds else value for name, value in given.items()}
        return caflow_deploy.enlarge(file.getvalue(), **{"model": calibrated, **made})

    with pytest.raises(CaflowError, match=message):
        enlarged()


def test_an_encoded_result_is_the_file_that_save_writes(rgb: Any, calibrated: Path, tmp_path: Path) -> None:
    deep = rgb.astype(np.uint16) * 257
    result = caflow_deploy.enlarge(deep, model=calibrated, options=TWO)
    for name in ("out.png", "out.jpg"):
        result.save(tmp_path / name, quality=80)
        assert result.encoded(Path(name).suffix, quality=80) == (tmp_path / name).read_bytes()
    assert read_image(tmp_path / "out.png").bits == 16
    with pytest.raises(InputError, match="must end in"):
        result.encoded(".gif")
    with pytest.raises(InputError, match=r"there is no folder .*missing: make it first"):
        result.save(tmp_path / "missing" / "out.png")


def test_a_damaged_pil_image_and_endless_files_are_unreadable(rgb: Any, calibrated: Path, tmp_path: Path) -> None:
    PIL.Image.fromarray(rgb).save(tmp_path / "in.png")
    (tmp_path / "in.png").write_bytes((tmp_path / "in.png").read_bytes()[:-60])
    with PIL.Image.open(tmp_path / "in.png") as cut, pytest.raises(UnreadableImage, match="PIL cannot decode it"):
        caflow_deploy.enlarge(cut, model=calibrated)
    with Path("/dev/zero").open("rb") as endless, pytest.raises(UnreadableImage, match="more than an image within"):
        caflow_deploy.enlarge(endless, model=calibrated, run=RunOptions(max_pixels=100))


def test_a_damaged_jpeg_gets_no_verdict(photographs: Path) -> None:
    """What is grey or shifted may well be usual."""
    file = io.BytesIO()
    PIL.Image.open(photographs / "canyon-wren.jpg").resize((96, 64)).save(file, "JPEG", quality=95)
    whole = file.getvalue()
    damaged = whole[:-800] + bytes(256) + whole[-544:]  # a sector was lost
    options = DrawOptions(1, min_typicality=0.01)
    sound, unsound = (caflow_deploy.enlarge(each, model="x4-photo", options=options) for each in (whole, damaged))
    assert (sound.outcome, sound.typicality is None) == ("accepted", False)
    assert (unsound.outcome, unsound.typicality, unsound.is_unusual) == ("unjudged", None, False)
    assert "the JPEG is damaged" in unsound.warnings[0]


def test_a_file_is_judged_as_it_would_be_read(rgb: Any, calibrated: Path, tmp_path: Path) -> None:
    judging = structs.replace(TWO, judge="image")
    judged = caflow_deploy.enlarge(rgb, model=calibrated, options=judging, output=OutputOptions(judge_as=".jpg"))
    judged.save(tmp_path / "out.jpg")
    score = caflow_deploy.score(tmp_path / "out.jpg", rgb, model=calibrated)
    assert judged.typicality is not None
    assert score.image_typicality is not None
    assert judged.typicality.value == pytest.approx(score.image_typicality.value[0], rel=1e-6)


def test_models_stay_open_for_any_number_of_threads(rgb: Any, calibrated: Path, uncalibrated: Path) -> None:
    caflow_deploy.close_models()
    backends = [RunOptions(threads=threads) for threads in (1, 2, 3)]
    models = [calibrated, uncalibrated]

    def size_of(k: int) -> tuple[int, int]:
        return caflow_deploy.enlarge(rgb, model=models[k % 2], options=TWO, run=backends[k % 3]).image.size

    with ThreadPoolExecutor(6) as threads:  # six models, of which only two stay open
        assert set(threads.map(size_of, range(18))) == {(48, 36)}
    assert len(open_models._models) == open_models.KEPT
    caflow_deploy.close_models()
    assert not open_models._models


def test_an_open_model_refuses_a_backend_that_it_would_ignore(rgb: Any, calibrated: Path) -> None:
    with caflow_deploy.load(calibrated, threads=1) as pipe:
        for run in (RunOptions(threads=2), RunOptions(backend="cpu")):
            with pytest.raises(InputError, match="the model is open already"):
                caflow_deploy.enlarge(rgb, model=pipe, run=run)
        assert caflow_deploy.enlarge(rgb, model=pipe, options=TWO, run=RunOptions(max_pixels=200)).model == "model"
