"""`caflow page` as a server, visited in a real browser."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import httpx
import numpy as np
import PIL.Image
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from tiny import photograph
from visit import TIMEOUT_S, Served, Visit, browser, source

from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load

__all__ = ["browser", "source"]  # fixtures

CHELSEA = Path(__file__).parents[3] / "docs" / "images" / "chelsea.png"
SCREENSHOT = os.environ.get("CAFLOW_SCREENSHOT")
"""Path of the README's picture of the page, if it is to be written. CONTRIBUTING.md shows the command."""
ERROR = "[data-testid=toast-text]"
ERRORS = f"[...document.querySelectorAll('{ERROR}')].map(error => error.innerText).join('|')"
RESULT = ".gallery .thumbnail-item img"
NO_RESULT = """
!document.querySelector('.slider img, .gallery img, .verdict, .figures li')
&& document.querySelector('.download-sample').disabled
"""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that starts a page. Its files are below tmp_path / "files", and it is killed after the test."""
    started: list[Served] = []
    (tmp_path / "files").mkdir()

    def start(bundle: Path | None) -> Served:
        started.append(Served(bundle, tmp_path / "files"))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate(timeout=TIMEOUT_S)


@pytest.mark.full
def test_a_visitor_can_draw_and_download_samples(
    calibrated: Path, source: Path, tmp_path: Path, serve: Callable[..., Served], browser: Any
) -> None:
    served = serve(calibrated)
    visit = Visit(browser, served.address)
    page = visit.page
    with load(calibrated, backend="cpu") as pipe:
        drawn = pipe.sample(read_image(source).rgb, n=4)

    visit.upload(source)
    page.wait_for_selector(".looked img")
    visit.draw(4)
    assert visit.captions() == ["best", "2", "3", "4"]
    assert not page.is_visible(".figures")
    page.click(".details button")
    page.wait_for_selector(f".figures :text('{drawn.bits_per_dim[0, 0]:.3f} bits/dim')")
    np.testing.assert_array_equal(visit.fetch(visit.shown()), drawn.images[0][0])

    first = visit.shown()
    page.click(".gallery .thumbnail-item >> nth=2")
    page.wait_for_function(f"document.querySelectorAll('.slider img')[1].src != {first!r}")
    np.testing.assert_array_equal(visit.fetch(visit.shown()), drawn.images[0][2])
    page.wait_for_selector(f".figures :text('{drawn.bits_per_dim[0, 2]:.3f} bits/dim')")
    name, pixels = visit.download()
    assert name == "wren-80x64-3.png"
    np.testing.assert_array_equal(pixels, drawn.images[0][2])

    temperature = page.locator(".temperature input")
    temperature.fill("7")
    temperature.press("Enter")
    assert temperature.input_value() == "7"  # a list to choose from would take 0.7
    temperature.fill("")

    (tmp_path / "text.png").write_text("no image")
    page.click(".given [aria-label=Clear]")
    page.wait_for_function(NO_RESULT)
    visit.upload(tmp_path / "text.png")
    message = page.wait_for_selector("[data-testid=toast-body]").inner_text()
    assert "text.png: cannot decode this file" in message
    assert str(served.temporary) not in message
    page.wait_for_selector(".given [aria-label=Clear]", state="detached")  # the box is empty again
    visit.upload(source)
    page.wait_for_selector(".looked img")
    visit.draw(2)
    page.wait_for_function(f"{ERRORS} == ''")

    assert all(url.startswith((served.address, "data:", "blob:")) for url in visit.requested), visit.requested
    assert visit.wrong == []
    assert list(served.temporary.rglob("wren*.png"))
    assert served.end(signal.SIGINT) == (0, "")
    assert not list(served.temporary.iterdir())


@pytest.mark.full
def test_a_visitor_paints_over_what_is_to_be_removed(
    completing: dict[str, Path], source: Path, serve: Callable[..., Served], browser: Any, photographs: Path
) -> None:
    """What was painted over an image is not painted over the next one."""
    visit = Visit(browser, serve(completing["masked-inpainting"]).address)
    page = visit.page
    for height, zoom in ((150, "192%"), (144, "200%")):
        picture = photograph(photographs, 1, height, 200)
        write_image(source, picture)
        visit.upload(source)
        page.wait_for_selector(f".editor :text('{zoom}')")  # the editor shows this image
        page.click(".go")
        page.wait_for_function(f"{ERRORS} == 'nothing is painted over: paint over all that the model should replace'")
        visit.set_samples(1)
        for _ in range(5):  # the editor loads its image again, and loses what is painted meanwhile
            page.wait_for_timeout(3000)
            canvas = page.locator(".editor canvas").first.bounding_box()
            page.mouse.click(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2)
            page.evaluate(f"document.querySelectorAll('{ERROR}').forEach(error => error.dataset.old = true)")
            page.click(".go")
            page.wait_for_selector(f"{ERROR}:not([data-old]), {RESULT}")
            if page.locator(RESULT).count():
                break
        assert page.locator(RESULT).count(), "what was painted never reached the server"
        page.wait_for_function("[...document.images].every(image => image.complete)")
        changed = (visit.fetch(visit.shown()) != picture).any(2)
        assert changed[height // 2, 100]
        assert not changed[:20].any()
        assert not changed[:, :40].any()
    assert visit.wrong == []


@pytest.mark.full
def test_the_page_without_a_model_has_a_tab_for_each_task(
    serve: Callable[..., Served], browser: Any, source: Path, tmp_path: Path
) -> None:
    """The image decides which model enlarges it. A model with one result shows one."""
    served = serve(None)
    visit = Visit(browser, served.address)
    page = visit.page
    page.wait_for_selector(".given input[type=file]", state="attached")
    assert page.locator("[role=tab]:visible").all_inner_texts() == ["Enlarge", "Remove", "Colour"]
    PIL.Image.open(source).save(tmp_path / "phone.jpg", quality=60)
    visit.upload(tmp_path / "phone.jpg")
    page.wait_for_selector(".looked img")
    page.click(".go")
    page.wait_for_selector(".judged :text('by x4-real, because it is a JPEG of quality 60')")
    assert len(visit.captions()) == 10
    visit.upload([source, tmp_path / "phone.jpg"])
    page.wait_for_selector(".said:visible :text('2 images: about')")
    page.click(".go")
    page.wait_for_selector(".download-sample:has-text('Download all 2 results (ZIP)')")
    assert visit.captions() == ["wren", "phone"]
    page.click(".gallery .thumbnail-item >> nth=1")
    page.wait_for_selector(".judged :text('by x4-real, because it is a JPEG of quality 60')")
    with page.expect_download() as got:
        page.click(".download-sample")
    assert ZipFile(got.value.path()).namelist() == ["wren.png", "phone.png"]
    page.click(".given [aria-label='Remove this file'] >> nth=0")
    page.wait_for_selector(".said:visible :text('10 samples by x4-real')")
    page.wait_for_function(NO_RESULT)
    page.click("[role=tab]:has-text('Colour')")
    shown = page.locator("[role=tabpanel]:visible")
    shown.locator(".given input[type=file]").set_input_files(source)
    shown.locator(".given [aria-label=Clear]").wait_for()  # the file has arrived
    shown.locator(".go").click()
    shown.locator(".gallery .thumbnail-item img").wait_for()
    assert shown.locator(".gallery .caption-label").all_inner_texts() == ["best"]
    shown.locator(".places img").wait_for()
    shown.locator(".said :text('1 sample by colour-hints')").wait_for()
    assert visit.wrong == []


@pytest.mark.full
def test_sigterm_ends_a_page_that_is_computing(
    serve: Callable[..., Served], browser: Any, photographs: Path, source: Path
) -> None:
    """The samples would take most of a minute, so the page is still drawing when it is stopped."""
    served = serve(Path("x4-photo"))
    visit = Visit(browser, served.address)
    write_image(source, photograph(photographs, 3, 256, 256))
    visit.upload(source)
    visit.page.wait_for_selector(".looked img")
    visit.set_samples(32)
    visit.page.click(".go")
    visit.page.wait_for_function("/drawing/.test(document.querySelector('.slider').innerText)")
    assert not visit.captions()
    assert served.end(signal.SIGTERM) == (0, "")
    assert not list(served.temporary.iterdir())


def ask(served: Served, **asked: Any) -> dict[str, Any]:
    """Send what a visitor's browser sends, and return the answer."""
    queue, visitor = f"{served.address}gradio_api/queue", {"session_hash": "visitor"}
    httpx.post(f"{queue}/join", json=asked | visitor, timeout=TIMEOUT_S).raise_for_status()
    end = time.monotonic() + TIMEOUT_S  # of the whole answer: Gradio keeps the connection open with further lines
    with httpx.stream("GET", f"{queue}/data", params=visitor, timeout=TIMEOUT_S) as answer:
        for line in answer.iter_lines():
            assert time.monotonic() < end
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {"msg": ""}
            if message["msg"] == "process_completed":
                return cast(dict[str, Any], message)
    raise AssertionError("the answer ended before the function did")


@pytest.mark.full
def test_visitors_cannot_read_server_files(uncalibrated: Path, source: Path, serve: Callable[..., Served]) -> None:
    """Neither a download nor a request that names the file as an upload reveals a file of the server."""
    served = serve(uncalibrated)
    assert httpx.get(f"{served.address}gradio_api/file={source}", timeout=TIMEOUT_S).status_code == 403
    uploaded = {"path": str(source), "orig_name": source.name, "meta": {"_type": "gradio.FileData"}}
    listed = httpx.get(f"{served.address}config", timeout=TIMEOUT_S).json()["dependencies"]
    functions = [function["id"] for function in listed if function["inputs"]]
    gallery = [{"image": {"path": str(CHELSEA)}, "caption": None}]  # below the working directory of the page
    for function in functions:  # among them the one that shows a sample of the gallery
        done = ask(served, fn_index=function, data=[[None, None], gallery], event_data={"index": 0, "value": None})
        assert CHELSEA.name not in json.dumps(done["output"])
        assert not done["success"]
        for settings in ([], ["automatic", "×4", 1, "0.8", "likelihood", 0]):
            assert not ask(served, fn_index=function, data=[[uploaded], *settings])["success"]
    assert len(functions) == 7


@pytest.mark.full
@pytest.mark.skipif(SCREENSHOT is None, reason="CAFLOW_SCREENSHOT is not set")
def test_the_picture_of_the_readme(serve: Callable[..., Served], browser: Any) -> None:
    visit = Visit(browser, serve(None).address)
    visit.upload(CHELSEA)
    visit.page.wait_for_selector(".looked img")
    visit.page.click(".go")
    visit.page.wait_for_selector(RESULT)
    visit.page.wait_for_function("[...document.images].every(image => image.complete)")
    visit.page.screenshot(path=SCREENSHOT, full_page=True, type="jpeg", quality=60)


def test_wrong_values_are_refused_without_a_line_in_the_log(
    uncalibrated: Path, source: Path, serve: Callable[..., Served]
) -> None:
    served = serve(uncalibrated)
    client = Client(served.address, verbose=False)
    good = [[handle_file(source)], "automatic", "×4", 1, 0.8, "likelihood", 0]
    assert client.submit(*good, api_name="/run").result(TIMEOUT_S)
    for place in range(2, len(good)):
        hostile: list[Any] = ["abc", [], {}, -1, 2**70, "1" * 5000]
        for wrong in hostile:
            with pytest.raises(AppError, match=r"must be|not finite"):
                client.submit(*good[:place], wrong, *good[place + 1 :], api_name="/run").result(TIMEOUT_S)
    assert served.end(signal.SIGINT) == (0, "")
