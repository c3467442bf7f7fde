"""`caflow page` as a server, visited in a real browser."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tiny import photograph
from visit import Served, Visit, browser, source

from caflow_runtime.pictures.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load

__all__ = ["browser", "source"]  # fixtures

CHELSEA = Path(__file__).parents[1] / "docs" / "images" / "chelsea.png"
SCREENSHOT = os.environ.get("CAFLOW_SCREENSHOT")
"""Path of the README's picture of the page, if it is to be written. CONTRIBUTING.md shows the command."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that starts a page. Its files are below tmp_path / "files", and it is killed after the test."""
    started: list[Served] = []
    (tmp_path / "files").mkdir()

    def start(bundle: Path, *options: str, **environment: str) -> Served:
        started.append(Served(bundle, tmp_path / "files", *options, **environment))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


@pytest.mark.full
def test_a_visit(calibrated: Path, source: Path, tmp_path: Path, serve: Callable[..., Served], browser: Any) -> None:
    served = serve(calibrated)
    assert served.line == f"model is at {served.address}  Press Ctrl-C to stop.\n"
    visit = Visit(browser, served.address)
    page = visit.page
    with load(calibrated, backend="cpu") as pipe:
        drawn = pipe.sample(read_image(source).rgb, n=4)
        judged = pipe.score(drawn.images[0][0], read_image(source).rgb).image_typicality
    assert drawn.sample_typicality is not None
    assert judged is not None

    visit.upload(source)
    page.wait_for_selector("#looked img")
    visit.draw(4)
    assert visit.captions() == [
        f"{'best: ' if k == 0 else ''}{drawn.bits_per_dim[0, k]:.3f} bits/dim\n"
        f"sample typicality {drawn.sample_typicality.value[0, k]:.2f}"
        f"{'' if k else f'{chr(10)}image typicality {judged.value[0]:.2f}'}"
        for k in range(4)
    ]
    np.testing.assert_array_equal(visit.fetch(visit.shown()), drawn.images[0][0])

    sample = page.locator("#slider img").nth(1)
    before = sample.evaluate("image => getComputedStyle(image).clipPath")
    handle = page.locator("#slider .icon-wrap").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(handle["x"] + 120, handle["y"], steps=5)
    page.mouse.up()
    assert "50%" in before
    assert sample.evaluate("image => getComputedStyle(image).clipPath") != before

    name, pixels = visit.download()
    assert name == "wren-1.png"
    np.testing.assert_array_equal(pixels, drawn.images[0][0])
    first = visit.shown()
    page.click("#gallery .thumbnail-item >> nth=2")
    page.wait_for_function(f"document.querySelectorAll('#slider img')[1].src != {first!r}")
    np.testing.assert_array_equal(visit.fetch(visit.shown()), drawn.images[0][2])
    name, pixels = visit.download()
    assert name == "wren-3.png"
    np.testing.assert_array_equal(pixels, drawn.images[0][2])

    (tmp_path / "text.png").write_text("no image")
    visit.upload(tmp_path / "text.png")
    message = page.wait_for_selector("[data-testid=toast-body]").inner_text()
    assert "text.png: cannot decode this file" in message
    assert str(served.temporary) not in message
    page.wait_for_selector("#given input[type=file]", state="attached")
    visit.upload(source)
    page.wait_for_selector("#looked img")
    visit.draw(2)

    assert all(url.startswith((served.address, "data:", "blob:")) for url in visit.requested), visit.requested
    assert visit.wrong == []
    assert list(served.temporary.rglob("wren*.png"))
    assert served.end(signal.SIGINT) == (0, "")
    assert not list(served.temporary.iterdir())


@pytest.mark.full
def test_a_stop_while_it_computes(serve: Callable[..., Served], browser: Any, photographs: Path) -> None:
    """The samples would take most of a minute, so the page is still drawing when it is stopped."""
    served = serve(Path("x4-photo"))
    visit = Visit(browser, served.address)
    write_image(served.temporary.parent / "large.png", photograph(photographs, 3, 256, 256))
    visit.upload(served.temporary.parent / "large.png")
    visit.page.wait_for_selector("#looked img")
    visit.page.fill("#samples input[type=number]", "32")
    visit.page.click("#go")
    visit.page.wait_for_function("/tiles|sampling/.test(document.querySelector('#slider').innerText)")
    assert not visit.captions()
    assert served.end(signal.SIGTERM) == (0, "")
    assert not list(served.temporary.iterdir())


@pytest.mark.full
def test_the_browser_is_opened(uncalibrated: Path, tmp_path: Path, serve: Callable[..., Served]) -> None:
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    script.chmod(0o700)
    served = serve(uncalibrated, "--open", BROWSER=f"{script} %s")
    assert served.end(signal.SIGINT) == (0, "")
    assert (tmp_path / "opened").read_text() == f"{served.address}\n"


def ask(served: Served, **asked: Any) -> dict[str, Any]:
    """Send what a visitor's browser sends, and return the answer."""
    request = urllib.request.Request(
        f"{served.address}gradio_api/queue/join",
        json.dumps(asked | {"session_hash": "visitor"}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(f"{served.address}gradio_api/queue/data?session_hash=visitor") as answer:
        lines = [line.decode().removeprefix("data: ") for line in answer if line.startswith(b"data: ")]
    messages = [json.loads(line) for line in lines]
    (done,) = (message for message in messages if message["msg"] == "process_completed")
    return cast(dict[str, Any], done)


@pytest.mark.full
def test_files_of_the_server_are_not_given_away(uncalibrated: Path, source: Path, serve: Callable[..., Served]) -> None:
    """Neither a download nor a request that names the file as an upload reveals a file of the server."""
    served = serve(uncalibrated)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{served.address}gradio_api/file={source}")
    uploaded = {"path": str(source), "orig_name": source.name, "meta": {"_type": "gradio.FileData"}}
    assert not ask(served, fn_index=0, data=[uploaded])["success"]
    with urllib.request.urlopen(f"{served.address}config") as answer:
        functions = [function["id"] for function in json.load(answer)["dependencies"] if function["inputs"]]
    gallery = [{"image": {"path": str(CHELSEA)}, "caption": None}]  # below the working directory of the page
    for function in functions:  # among them the one that shows a sample of the gallery
        done = ask(served, fn_index=function, data=[[None, None], gallery], event_data={"index": 0, "value": None})
        assert CHELSEA.name not in json.dumps(done["output"])
        assert not done["success"]
    assert len(functions) == 3


@pytest.mark.full
@pytest.mark.skipif(SCREENSHOT is None, reason="CAFLOW_SCREENSHOT is not set")
def test_the_picture_of_the_readme(serve: Callable[..., Served], browser: Any) -> None:
    served = serve(Path("x4-photo"))
    visit = Visit(browser, served.address)
    visit.upload(CHELSEA)
    visit.page.wait_for_selector("#looked img")
    visit.draw(8)
    visit.page.screenshot(path=SCREENSHOT, full_page=True, type="jpeg", quality=60)
