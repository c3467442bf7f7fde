"""`caflow page`: the samples that it shows, and which requests it refuses."""

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import PIL.Image
import pytest
from commands import caflow, run_without
from gradio.components.image_editor import AcceptBlobs, BlobData, EditorData
from gradio.data_classes import FileData
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from tiny import calibrated_pipe as pipe
from visit import source

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.result_pictures import with_rings
from caflow_deploy.page import guard, page_sampler
from caflow_deploy.page.guard import Guard
from caflow_deploy.page.many_images import archive_of, draw_all
from caflow_deploy.page.page_outputs import values_of_one, values_of_several
from caflow_deploy.page.page_records import Closed, Settings
from caflow_deploy.page.page_sampler import MAX_SAMPLES, PageSampler
from caflow_deploy.page.page_texts import other_model, ranks_of, settings_of
from caflow_deploy.page.painting import MAX_WAITING, painting_editor, read_painting
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.ood.consistency import enlarge
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.sizes import Size

__all__ = ["pipe", "source"]  # fixtures


@pytest.fixture
def sampler(pipe: Pipeline, tmp_path: Path) -> PageSampler:
    return PageSampler([pipe], tmp_path)


def nobody(done: int, count: int) -> None:
    """Ignore the progress."""


def test_files_hold_the_samples_that_the_pipeline_draws(sampler: PageSampler, source: Path) -> None:
    seen: list[tuple[int, int]] = []
    results = sampler.draw(source, Settings(4, 0.8, "typical", 5), lambda *done: seen.append(done))
    condition = read_image(source).rgb
    wanted = sampler.pipe.sample(condition, n=4, temperature=0.8, rank="typical", seed=5)
    for k, sample in enumerate(results.samples):
        np.testing.assert_array_equal(read_image(sample.path).rgb, wanted.images[0][k])
        assert sample.bits_per_dim == wanted.bits_per_dim[0, k]
        assert sample.consistency == sampler.pipe.consistency.psnr(wanted.images[0][k], condition)
    large = np.clip(np.rint(enlarge(condition.astype(np.float32), 4)), 0, 255)
    np.testing.assert_array_equal(read_image(results.enlarged).rgb, large)
    assert results.likelihood[0].shape == (64, 80, 3)
    assert results.uncertainty is not None
    assert results.uncertainty[0].shape == (64, 80, 3)
    assert seen[-1][0] == seen[-1][1] > 0


def test_verdicts_are_those_of_the_command_that_rejects_samples(source: Path, tmp_path: Path) -> None:
    """A photograph gives usual samples, and white noise unusual ones, by the rule of --min-typicality."""
    write_image(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8))
    with load("x4-photo", backend="cpu") as pipe:
        sampler = PageSampler([pipe], tmp_path)
        for path, outcome, message in (
            (source, "accepted", "Usual for this model"),
            (tmp_path / "noise.png", "rejected", "Unusual: look at it"),
        ):
            (sample, _) = sampler.draw(path, Settings(2, 0.8, "likelihood", 0), nobody).samples
            best = pipe.best_of(read_image(path).rgb, n=2, min_typicality=0.01, redraws=0)
            assert best.outcome == [outcome]
            assert best.sample_typicality is not None
            assert (sample.message, sample.typicality) == (message, best.sample_typicality.value[0])


def test_what_is_painted_is_a_mask(completing: dict[str, Path], source: Path, tmp_path: Path) -> None:
    """Without a mask there is nothing to draw."""
    settings, image = Settings(2, 0.8, "likelihood", 3), read_image(source).rgb
    painted = np.zeros((*image.shape[:2], 4), np.uint8)
    painted[2:9, 4:12] = (224, 32, 32, 255)
    with load(completing["masked-inpainting"], backend="cpu") as pipe:
        sampler = PageSampler([pipe], tmp_path)
        results = sampler.draw(source, settings, nobody, painted)
        wanted = pipe.sample(pipe.prepare(image, mask=painted[..., 3] > 0), n=2, temperature=0.8, seed=3)
        for nothing in (None, np.zeros_like(painted)):
            with pytest.raises(InputError, match="nothing is painted over: paint over all"):
                sampler.draw(source, settings, nobody, nothing)
        with pytest.raises(InputError, match="the editor has lost the photograph"):
            sampler.draw(source, settings, nobody, np.full((800, 800, 4), 255, np.uint8))
        assert [rank for _, rank in ranks_of(pipe)] == ["likelihood"]
    for k, sample in enumerate(results.samples):
        np.testing.assert_array_equal(read_image(sample.path).rgb, wanted.images[0][k])
        assert sample.consistency is None
    np.testing.assert_array_equal(read_image(results.enlarged).rgb, image)


def test_too_many_samples_or_pixels_are_refused(
    sampler: PageSampler, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=f"must be at most {MAX_SAMPLES} for results of 80×64 pixels; got 33"):
        sampler.draw(source, Settings(MAX_SAMPLES + 1, 0.8, "likelihood", 0), nobody)
    monkeypatch.setattr(page_sampler, "MAX_PAGE_PIXELS", 3 * 80 * 64)
    assert len(sampler.draw(source, Settings(3, 0.8, "likelihood", 0), nobody).samples) == 3
    with pytest.raises(InputError, match="must be at most 3"):
        sampler.draw(source, Settings(4, 0.8, "likelihood", 0), nobody)
    monkeypatch.setattr(page_sampler, "MAX_PAGE_PIXELS", 80 * 64 - 1)
    with pytest.raises(InputError, match=r"would have 80×64 pixels.*use the command caflow image"):
        sampler.draw(source, Settings(1, 0.8, "likelihood", 0), nobody)


def test_errors_on_the_page_name_the_file_and_not_its_place(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "<i>.png").write_text("no image")
    write_image(tmp_path / "bomb.png", np.zeros((6000, 6000, 3), np.uint8))
    write_image(tmp_path / "small.png", np.zeros((8, 8, 3), np.uint8))
    code = f"""
from pathlib import Path
from caflow_deploy.commands.page import set_environment
set_environment({str(tmp_path)!r})
import gradio
from caflow_deploy.page.page import build_page
from caflow_deploy.page.page_sampler import PageSampler
from caflow_runtime.pipeline.pipeline import load
sampler = PageSampler([load({str(pipe.folder)!r}, backend="cpu")], Path({str(tmp_path)!r}))
functions = {{block.name: block for block in build_page([sampler]).fns.values()}}
request = gradio.Request(session_hash="visitor")
SETTINGS = ["automatic", "×4", 1, 0.8, "likelihood", 0]
for name, arguments in (
    ("look", [[{str(tmp_path / "<i>.png")!r}]]),
    ("look", [[{str(tmp_path / "bomb.png")!r}]]),
    ("run", [None, *SETTINGS]),
    ("run", [[{str(tmp_path / "small.png")!r}], *SETTINGS[:3], "warm", "likelihood", 0]),
    ("run", [[{str(tmp_path / "small.png")!r}], *SETTINGS[:3], "-1", "likelihood", 0]),
    ("look", [[{str(tmp_path / "small.png")!r}]]),
):
    if name == "look" and "small.png" in arguments[0][0]:
        sampler.folder = Path({str(tmp_path / "gone")!r})
    try:
        block = functions[name]
        given = [dict(zip(sorted(block.inputs, key=lambda one: one._id), arguments)), request]
        block.fn(*(given if name == "run" else arguments))
    except gradio.Error as error:
        print(error.message)
"""
    done = run_without((), code)
    assert done.returncode == 0, done.stderr
    *refusals, failing = done.stdout.splitlines()
    expected = ("&lt;i&gt;.png", "24000×24000", "no image", "&#x27;warm&#x27;", "temperature")
    assert all(text in refusal for text, refusal in zip(expected, refusals, strict=True))
    assert str(tmp_path) not in done.stdout
    assert "FileNotFoundError" not in failing
    assert "FileNotFoundError" in done.stderr


def guarded(folder: Path, host: str = "127.0.0.1") -> TestClient:
    """Return a client of an application behind the guard, which answers "ok"."""
    return TestClient(Guard(PlainTextResponse("ok"), host, folder), base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"Host": "localhost:7860"}, 200),
        ("127.0.0.1", {"Host": "[::1]:7860"}, 200),
        ("127.0.0.1", {"Origin": "http://127.0.0.1:7860"}, 200),
        ("127.0.0.1", {"Host": "evil.example"}, 403),
        ("127.0.0.1", {"Host": ""}, 403),
        ("127.0.0.1", {"Host": "["}, 403),
        ("127.0.0.1", {"Origin": "http://evil.example"}, 403),
        ("127.0.0.1", {"Origin": "null"}, 403),
        ("127.0.0.1", {"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ("Workstation", {"Host": "workstation:7860"}, 200),
        ("0.0.0.0", {"Host": "page.example", "Origin": "https://page.example"}, 200),
    ],
)
def test_other_websites_cannot_use_the_page(tmp_path: Path, host: str, headers: dict[str, str], status: int) -> None:
    client = guarded(tmp_path, host)
    assert client.get("/", headers=headers).status_code == status
    assert client.post("/gradio_api/upload", headers=headers).status_code == status


def test_uploads_are_refused_when_files_take_too_much_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BYTES", 10)
    (tmp_path / "upload").mkdir()
    (tmp_path / "upload" / "a.png").write_bytes(bytes(11))
    client = guarded(tmp_path)
    refused = client.post("/gradio_api/upload")
    assert refused.status_code == 507
    assert client.get("/").status_code == 200
    (tmp_path / "upload" / "a.png").unlink()
    assert client.post("/gradio_api/upload").status_code == 200


def test_the_most_usual_sample_requires_a_calibrated_temperature(sampler: PageSampler, source: Path) -> None:
    assert len(sampler.draw(source, Settings(2, 0.8, "typical", 0), nobody).samples) == 2
    with pytest.raises(InputError, match=r"only at the temperatures 0\.8; choose one of them, or another Best sample"):
        sampler.draw(source, Settings(2, 0.75, "typical", 0), nobody)


def test_ipv6_addresses_are_refused() -> None:
    done = caflow("page", "--host", "::1", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("caflow: the page cannot listen on the IPv6 address ::1: give a name")


def test_a_sample_of_an_uncalibrated_model_is_not_judged(uncalibrated: Path, source: Path, tmp_path: Path) -> None:
    with load(uncalibrated, backend="cpu") as pipe:
        results = PageSampler([pipe], tmp_path).draw(source, Settings(1, 0.8, "likelihood", 0), nobody)
    assert results.uncertainty is None
    assert results.samples[0].typicality is None


@pytest.mark.parametrize("kind", ["EPS", "TIFF", "GIF", "JPEG2000", "opaque PNG", "large PNG", "nothing"])
def test_what_is_painted_is_read_as_a_small_png_alone(kind: str, tmp_path: Path) -> None:
    """Gradio itself would give an EPS to Ghostscript, and layers of any size to Pillow, again and again."""
    side = 6000 if kind == "large PNG" else 8
    picture = PIL.Image.new("RGB" if kind in ("EPS", "opaque PNG") else "RGBA", (side, side))
    path = tmp_path / "layer.png"
    picture.save(path, kind.split()[-1] if kind != "nothing" else "PNG")
    layers = [FileData(path=str(path))] * (kind != "nothing")
    given = EditorData(background=FileData(path=str(tmp_path)), layers=layers, composite=FileData(path="/"))
    contents: Any = painting_editor().preprocess(given)
    if kind == "nothing":
        assert read_painting(contents) is None
    else:
        with pytest.raises(UnreadableImage, match=r"expected a PNG|megapixels, more than the limit"):
            read_painting(contents)


def test_posted_layers_are_bounded() -> None:
    painting = painting_editor()
    for k in range(MAX_WAITING + 1):
        for kind, index in (("layer", 0), ("layer", 10**12), ("background", None), ("composite", None)):
            data = BlobData(type=kind, index=index, file=b"", id=str(k))
            painting.accept_blobs(AcceptBlobs(data=data, files=[("file", kind.encode())]))
    used: list[Any] = [painting.preprocess(EditorData(id=str(k))) for k in (0, 1, MAX_WAITING, MAX_WAITING)]
    assert used == [None, b"layer", b"layer", None]
    assert not painting.blob_storage


def test_the_model_is_chosen_by_the_image_as_by_the_command(source: Path, tmp_path: Path) -> None:
    """A visitor can name another one, and sees which one was chosen and why."""
    PIL.Image.fromarray(read_image(source).rgb).save(tmp_path / "phone.jpg", quality=60)
    settings = Settings(1, None, "likelihood", 0)
    with load("x4-photo", backend="cpu") as clean, load("x4-real", backend="cpu") as real:
        sampler = PageSampler([clean, real], tmp_path)
        results = sampler.draw(tmp_path / "phone.jpg", settings, nobody)
        assert "by x4-real, because it is a JPEG of quality 60, with temperature 0.5" in settings_of(results)
        assert "x4-real" not in other_model(sampler, results.model)
        damaged = bytearray((tmp_path / "phone.jpg").read_bytes())
        damaged[-2:-2] = bytes(50)  # before the marker of the end
        (tmp_path / "damaged.jpg").write_bytes(damaged)
        unsound = sampler.draw(tmp_path / "damaged.jpg", settings, nobody)
        for values in (values_of_one(sampler, unsound), values_of_several(sampler, [unsound], [])):
            assert values[1].startswith('<p class="wrong">the JPEG is damaged')  # above the verdict
        assert unsound.samples[0].message == "No verdict: the file is damaged"
        named = sampler.draw(tmp_path / "phone.jpg", settings._replace(model="x4-photo"), nobody)
        assert (named.model, named.plan.because, named.plan.options.temperature) == ("x4-photo", "", 0.8)
        assert "choose the model x4-real" in other_model(sampler, named.model)
        with pytest.raises(InputError, match="the model must be one of x4-photo, x4-real; got 'x2-video'"):
            sampler.draw(tmp_path / "phone.jpg", settings._replace(model="x2-video"), nobody)


def test_results_have_the_size_that_is_asked_for(sampler: PageSampler, source: Path) -> None:
    results = sampler.draw(source, Settings(1, 0.8, "likelihood", 0, size=Size(width=60)), nobody)
    assert read_image(results.samples[0].path).rgb.shape == read_image(results.enlarged).rgb.shape == (48, 60, 3)
    for size in (Size(width=20), Size(scale=16)):
        with pytest.raises(InputError, match="the size must be above 20×16"):
            sampler.draw(source, Settings(1, 0.8, "likelihood", 0, size=size), nobody)


def test_samples_that_would_all_be_the_same_are_drawn_once(sampler: PageSampler, source: Path) -> None:
    assert len(sampler.draw(source, Settings(8, 0.0, "likelihood", 0), nobody).samples) == 1
    assert len(sampler.draw(source, Settings(None, 0.8, "likelihood", 0), nobody).samples) == 10


def test_only_the_visitor_who_asked_can_cancel(calibrated: Path, source: Path, tmp_path: Path) -> None:
    settings = Settings(2, 0.8, "likelihood", 0)
    with load(calibrated, backend="cpu", tiling=Tiling(80 * 64, 0)) as pipe:
        sampler = PageSampler([pipe], tmp_path)
        said: list[bool] = []
        with sampler.visit("one"):
            drawn = sampler.draw(source, settings, lambda *_: said.append(sampler.cancel("other")))
        assert (len(drawn.samples), any(said)) == (2, False)
        with sampler.visit("one"):
            with pytest.raises(Closed, match="cancelled"):
                sampler.draw(source, settings, lambda *_: said.append(sampler.cancel("one")))
            with pytest.raises(Closed, match="cancelled"):
                draw_all(sampler, [source, source], settings, lambda *_: None)  # the other images neither
        assert said[-1]
        assert not sampler.cancel("one")
        with sampler.visit("one"):
            assert len(sampler.draw(source, settings, nobody).samples) == 2


def test_of_several_images_the_best_samples_are_in_one_file(sampler: PageSampler, source: Path, tmp_path: Path) -> None:
    """An image that cannot be read costs no other image its result."""
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / source.name).write_bytes(source.read_bytes())
    (tmp_path / "text.png").write_text("no image")
    settings, seen = Settings(3, 0.8, "likelihood", 1), list[int]()
    sources = [source, tmp_path / "text.png", tmp_path / "again" / source.name]
    drawn, wrong = draw_all(sampler, sources, settings, lambda image, *_: seen.append(image))
    assert [one.startswith("text.png: cannot decode this file") for one in wrong] == [True]
    assert sorted(set(seen)) == [0, 2]
    best = sampler.pipe.best_of(read_image(source).rgb, n=3, temperature=0.8, seed=1)
    with ZipFile(archive_of(drawn)) as archive:
        assert archive.namelist() == ["wren.png", "wren-2.png"]
        for name in archive.namelist():
            (tmp_path / "out.png").write_bytes(archive.read(name))
            np.testing.assert_array_equal(read_image(tmp_path / "out.png").rgb, best.images[0])
    with pytest.raises(InputError, match=r"text\.png: cannot decode"):
        draw_all(sampler, [tmp_path / "text.png"], settings, lambda *_: None)


def test_places_for_colours_are_shown_before_and_after_drawing(
    completing: dict[str, Path], sampler: PageSampler, source: Path, tmp_path: Path
) -> None:
    """They are those that `caflow image --suggest-hints` marks."""
    image = read_image(source).rgb
    assert sampler.places(image, image) is None  # this model takes no hints
    painted = draw_hints(image.shape[0], image.shape[1], [Point(8, 8, (200, 40, 40))])
    with load(completing["color-hints"], backend="cpu") as pipe:
        coloring = PageSampler([pipe], tmp_path)
        np.testing.assert_array_equal(coloring.places(image, image), with_rings(image, suggest_hints(image, 5)))
        results = coloring.draw(source, Settings(1, 0.8, "likelihood", 3), nobody, painted)
        best = read_image(results.samples[0].path).rgb
        np.testing.assert_array_equal(results.places, with_rings(best, suggest_hints(image, 5, painted)))
