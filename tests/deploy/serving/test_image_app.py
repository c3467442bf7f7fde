"""`caflow serve` with image files: the files that the library writes, verdicts in headers, and refusals."""

import json
import math
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from commands import command, started
from ports import free_port

import caflow_deploy as caflow
from caflow_deploy.serving.image_answers import answer_image
from caflow_deploy.serving.image_requests import ImageModels
from caflow_runtime.bundle.builtin import find_bundle

IMAGES = Path(__file__).parents[3] / "docs" / "images"
PATIENCE_S = 300
RUN = caflow.RunOptions(threads=1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server of the built-in models."""
    port = free_port()
    options = ("--port", port, "--max-image-pixels", 200_000)
    with started(command("serve", *options), start_new_session=True) as process:
        assert process.stdout.readline() == f"x4-photo is ready at http://127.0.0.1:{port}\n"
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def posted(address: str, body: bytes | None, headers: Mapping[str, str] = {}) -> tuple[int, bytes, Any]:
    """Return the status, the body and the headers of the answer."""
    try:
        asked = urllib.request.Request(address, body, dict(headers))
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def form(**parts: bytes | str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a form, as browsers send it; texts are fields, bytes are files."""
    lines = b""
    for name, value in parts.items():
        file = '; filename="x"\r\nContent-Type: application/octet-stream' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        lines += f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
    return lines + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def saved(suffix: str, side: int = 40, **options: Any) -> bytes:
    """Return a small photograph as a file."""
    file = BytesIO()
    with PIL.Image.open(IMAGES / "chelsea.png") as photo:
        photo.convert("RGB").crop((30, 10, 30 + side, 10 + side)).save(file, suffix, **options)
    return file.getvalue()


def refused(answer: tuple[int, bytes, Any]) -> tuple[int, str]:
    status, body, _ = answer
    return status, json.loads(body)["error"]


def test_a_posted_file_is_enlarged_as_by_the_library(server: str) -> None:
    photo = saved("PNG")
    status, body, headers = posted(f"{server}/enlarge?n=2&seed=3", photo)
    expected = caflow.enlarge(photo, options=caflow.DrawOptions(n=2, seed=3), run=RUN)
    assert (status, body) == (200, expected.encoded(".png"))
    assert headers["Content-Type"] == "image/png"
    assert headers["Caflow-Model"] == "x4-photo"
    assert headers["Caflow-Reason"] == "no damage was found"
    assert headers["Caflow-Verdict"] == "usual"
    assert expected.typicality is not None
    assert headers["Caflow-Typicality"] == f"{expected.typicality.value:.3f}"


def test_the_image_decides_about_model_and_format(server: str) -> None:
    phone = saved("JPEG", quality=60)
    status, body, headers = posted(f"{server}/enlarge?width=100", phone)
    assert (status, headers["Content-Type"], headers["Caflow-Model"]) == (200, "image/jpeg", "x4-real")
    with PIL.Image.open(BytesIO(body)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (100, 100))
    status, body, headers = posted(f"{server}/enlarge?model=x4-photo&format=webp&n=1", phone)
    assert (status, body[8:12], headers["Caflow-Model"]) == (200, b"WEBP", "x4-photo")


def test_curl_sends_an_image_and_a_mask(server: str, tmp_path: Path) -> None:
    image, mask = IMAGES / "scratched.jpg", IMAGES / "scratched-mask.png"
    line = ["curl", "-sS", "-D", "headers", "-o", "mended.jpg", "-F", f"image=@{image}", "-F", f"mask=@{mask}"]
    subprocess.run([*line, f"{server}/inpaint"], check=True, cwd=tmp_path, timeout=PATIENCE_S)
    expected = caflow.inpaint(image, mask, run=RUN)
    assert (tmp_path / "mended.jpg").read_bytes() == expected.encoded(".jpeg")
    assert f"caflow-filled: {expected.filled:.4f}" in (tmp_path / "headers").read_text().lower()


def test_hints_and_parameters_are_parts_of_a_form(server: str) -> None:
    image, hints = (IMAGES / "grey.jpg").read_bytes(), (IMAGES / "grey-hints.png").read_bytes()
    status, body, _ = posted(f"{server}/colorize", *form(image=image, hints=hints, format="png"))
    assert (status, body) == (200, caflow.colorize(image, hints, run=RUN).encoded(".png"))
    status, _, headers = posted(f"{server}/colorize", image)
    assert (status, headers["Caflow-Verdict"]) == (200, "unjudged")


def test_wrong_requests_say_what_is_wrong(server: str) -> None:
    photo = saved("PNG", 16)
    assert refused(posted(f"{server}/enlarge", b"no image"))[0] == 400
    assert "needs the file image" in refused(posted(f"{server}/enlarge", b""))[1]
    assert "needs the file mask" in refused(posted(f"{server}/inpaint", photo))[1]
    assert "got one that is named 'photo'" in refused(posted(f"{server}/enlarge", *form(photo=photo)))[1]
    for wrong, reason in (
        ("n=0", "n must be an integer from 1 to"),
        ("n=1&n=2", "n "),
        ("n=2&seed=x", "seed must be an integer"),
        ("width=abc", "width must be an integer"),
        ("scale=0.5", "scale must be a number that is above 1"),
        ("scale=2&width=9", "scale"),
        ("format=jpeg", "one of bmp, jpg, png"),
        ("model=/etc", "model"),
        ("quality=101", "quality must be an integer from 1 to 100; got '101'"),
        ("mask_marks=white", "mask_marks"),
    ):
        status, said = refused(posted(f"{server}/enlarge?{wrong}", photo))
        assert (status, reason in said) == (400, True), said
    clear = BytesIO()
    PIL.Image.new("RGBA", (9, 9), (90, 90, 90, 40)).save(clear, "PNG")
    assert "transparen" in refused(posted(f"{server}/enlarge?format=jpg", clear.getvalue()))[1]
    one, headers = form(image=photo)
    two = one.removesuffix(b"--edge--\r\n") + one
    assert "image is given twice" in refused(posted(f"{server}/enlarge", two, headers))[1]
    broken = {"Content-Type": "multipart/form-data; boundary=edge"}
    assert refused(posted(f"{server}/enlarge", b"--edge\r\nnothing", broken))[0] == 400
    assert refused(posted(f"{server}/sharpen", photo))[0] == 404
    assert refused(posted(f"{server}/enlarge", None))[0] == 405


def test_metrics_count_the_verdict_of_the_header() -> None:
    models, counted = ImageModels.of(find_bundle("x4-photo"), False, 2**20), list[tuple[str, str]]()
    for parameters, verdict in (({"n": "1"}, "usual"), ({"width": "20"}, "reduced")):
        request = models.request("enlarge", {"image": saved("PNG")}, parameters)
        answer = answer_image(replace(request, until=math.inf), RUN, lambda *what: counted.append(what))
        assert answer.headers["Caflow-Verdict"] == verdict
        assert counted.pop() == ("x4-photo", verdict)


def test_damage_is_said_in_a_header(server: str) -> None:
    damaged = bytearray(saved("JPEG"))
    damaged[-40:-20] = bytes(20)
    status, _, headers = posted(f"{server}/enlarge?n=1", bytes(damaged))
    assert (status, headers["Caflow-Warning"].startswith("the JPEG is damaged")) == (200, True)
    assert (headers["Caflow-Verdict"], "Caflow-Typicality" in headers) == ("unjudged", False)


def test_what_is_too_large_is_refused_before_it_is_drawn(server: str, tmp_path: Path) -> None:
    large = BytesIO()
    PIL.Image.new("RGB", (500, 401)).save(large, "PNG")
    status, said = refused(posted(f"{server}/enlarge", large.getvalue()))
    assert (status, "got 500×401" in said) == (413, True)
    status, said = refused(posted(f"{server}/inpaint", *form(image=saved("PNG"), mask=large.getvalue())))
    assert (status, "the mask must have at most 0.2 megapixels" in said) == (413, True)
    status, said = refused(posted(f"{server}/enlarge?n=2000", saved("PNG", 16)))
    assert (status, "fewer samples" in said) == (413, True)
    (tmp_path / "large").write_bytes(bytes(3_000_000))  # curl asks before it sends it, and is told why not
    line = ["curl", "-sS", "--expect100-timeout", "60", "-w", "%{http_code}", "--data-binary", "@large"]
    curl = subprocess.run([*line, f"{server}/enlarge"], cwd=tmp_path, timeout=PATIENCE_S, capture_output=True)
    assert curl.stdout == b'{"error":"the request must have at most 2648576 bytes"}413'
