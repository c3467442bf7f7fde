"""A browser, and `caflow page` as a user starts and visits it."""

import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import command, heeding_ctrl_c, killed_in_time
from playwright.sync_api import sync_playwright
from ports import free_port
from tiny import photograph

from caflow_deploy.images.image_files import write_image

TIMEOUT_S = 120
"""Time limit in seconds, so that an event that never happens fails the test instead of blocking it."""
NOWHERE = "http://127.0.0.1:9/"
CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Any]:
    """Open Chromium without a window. Skip the test if it is not installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; run .ci/install-packages")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    """A browser without a window."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path, photographs: Path) -> Path:
    """A small photograph in a file."""
    path = tmp_path / "wren.png"
    write_image(path, photograph(photographs, 2, 16, 20))
    return path


class Served:
    """One `caflow page` process."""

    def __init__(self, bundle: Path | None, temporary: Path, *options: str, **environment: str) -> None:
        model = [] if bundle is None else ["--model", bundle]
        self.address = f"http://127.0.0.1:{(port := free_port())}/"
        self.temporary = temporary
        self.process = subprocess.Popen(
            heeding_ctrl_c(command("page", *model, "--port", port, *options)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary), "http_proxy": NOWHERE} | environment,
        )
        assert self.process.stdout is not None
        with killed_in_time(self.process):
            self.line = self.process.stdout.readline()

    def end(self, by: signal.Signals) -> tuple[int, str]:
        """Send a signal. Return the exit code, and all output after the first line."""
        self.process.send_signal(by)
        output, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, output + errors


class Visit:
    """A page in the browser, the addresses that it requested, and its errors."""

    def __init__(self, browser: Any, address: str) -> None:
        self.address = address
        self.requested: list[str] = []
        self.wrong: list[str] = []
        self.page = browser.new_page(viewport={"width": 1300, "height": 1000})
        self.page.set_default_timeout(1000 * TIMEOUT_S)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("requestfailed", self._failed)
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(address)

    def _failed(self, request: Any) -> None:
        is_stream = "/queue/data" in request.url or "/upload_progress" in request.url
        if not (is_stream and request.failure == "net::ERR_ABORTED"):  # Gradio closes it when it has all data
            self.wrong.append(f"{request.url}: {request.failure}")

    def upload(self, path: Path | list[Path]) -> None:
        if self.page.locator(".given [aria-label=Clear]").count():
            self.page.click(".given [aria-label=Clear]")
            self.page.wait_for_selector(".looked img", state="detached")  # otherwise it would be taken for the new one
        self.page.set_input_files(".given input[type=file]", path)

    def set_samples(self, n: int) -> None:
        if not self.page.is_visible(".samples input"):
            self.page.click(".more button")
        self.page.fill(".samples input", str(n))

    def draw(self, n: int) -> None:
        self.set_samples(n)
        self.page.click(".go")
        self.page.wait_for_function(f"document.querySelectorAll('.gallery .thumbnail-item img').length == {n}")
        self.page.wait_for_function("[...document.images].every(image => image.complete)")

    def captions(self) -> list[str]:
        return list(self.page.locator(".gallery .caption-label").all_inner_texts())

    def shown(self) -> str:
        """Return the address of the sample in the slider."""
        return str(self.page.locator(".slider img").nth(1).get_attribute("src"))

    def fetch(self, address: str) -> np.ndarray[Any, Any]:
        """Return the pixels at an address, as the browser receives them."""
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            return rgb_of(answer.read())

    def download(self) -> tuple[str, np.ndarray[Any, Any]]:
        """Click the download button. Return the name and the pixels of the file."""
        with self.page.expect_download() as got:
            self.page.click(".download-sample")
        return got.value.suggested_filename, rgb_of(Path(got.value.path()).read_bytes())


def rgb_of(contents: bytes) -> np.ndarray[Any, Any]:
    decoded = cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return np.asarray(decoded)
