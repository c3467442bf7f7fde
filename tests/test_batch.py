"""`caflow batch`: images, pairs and videos by many workers; results are those of one process."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batches import caflow, crops, drawn_alike, environment, lines_of
from clips import ffmpeg, packets
from tiny import DATA, photograph

from caflow_deploy.cluster.batch import Place, open_pipeline, versions_here
from caflow_deploy.commands.batch import SEGMENT_FRAMES, kind_of
from caflow_deploy.commands.serve import command as serve
from caflow_runtime.bundle.wrong_bundle import NoBundle
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import settings_of_pipeline
from caflow_runtime.jobs.image_folder import RESULTS
from caflow_runtime.judge.calibration import NAME as CALIBRATION
from caflow_runtime.judge.consistency import degrade
from caflow_runtime.pictures.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.rows.draw import Draw
from caflow_runtime.service.service import MAX_PIXELS
from caflow_runtime.video import job as video
from caflow_runtime.video.sink import Encoding
from caflow_runtime.video.source import FileSource

__all__ = ["environment"]  # a fixture


def test_kinds(tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
    assert kind_of(["a.png", str(tmp_path)]) == "images"
    assert kind_of([str(tmp_path / "pairs")]) == kind_of(["list.csv"]) == kind_of(["list.ndjson"]) == "pairs"
    with pytest.raises(InputError, match="one list of pairs, and nothing else"):
        kind_of(["a.png", "list.csv"])
    assert kind_of(["clip.mp4"]) == "a video"
    with pytest.raises(InputError, match=r"clip\.mp4: wanted one video"):
        kind_of(["a.png", "clip.mp4"])


def test_defaults_of_commands_are_those_of_the_runtime() -> None:
    """Which they do not import, as that takes long."""
    (max_pixels,) = (option.default for option in serve.params if option.name == "max_pixels")
    assert max_pixels == MAX_PIXELS
    assert SEGMENT_FRAMES == video.SEGMENT_FRAMES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png", "-o", "out", "--alpha", 0.1], "--alpha is not for images"),
        (["list.csv", "-o", "out", "-n", 10], "--samples is not for pairs"),
        (["a.png", "-o", "out", "--crf", 20], "--crf is not for images"),
        (["clip.mp4", "-o", "out.mp4", "--redraws", 3], "--redraws is not for a video"),
        (["clip.mp4", "-o", "out.mp4"], "clip.mp4: there is no such file"),
        (["a.png", "-o", "out.png"], "out.png: wanted a folder, this names an image"),
        (["nothing", "-o", "out"], "nothing: wanted an image, a folder with images or a glob"),
        (["list.csv", "-o", "out"], "there is nothing of that name"),
        (["a.png", "-o", "out", "--ray", "127.0.0.1:1"], "caflow: no Ray cluster at 127.0.0.1:1: "),
    ],
)
def test_refusals(calibrated: Path, tmp_path: Path, arguments: list[object], said: str) -> None:
    """Before anything is written, or a cluster started."""
    write_image(tmp_path / "a.png", photograph(DATA / "photographs", 0, 8, 8))
    done = caflow("batch", *arguments, "--bundle", calibrated, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out" / "job.json").exists()


@pytest.mark.full
def test_a_video(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The same bytes as of one process that ends its segments at the same frames, with scenes that cross them."""
    clip, out, alone = tmp_path / "clip.mp4", tmp_path / "out.mp4", tmp_path / "alone.mp4"
    moving = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=1.2", "-f", "lavfi", "-i", "sine=d=1.2"]
    ffmpeg(*moving, "-c:v", "libx264", "-bf", 2, "-g", 9, "-c:a", "aac", clip)
    options = ["--bundle", calibrated, "-n", 3, "--seed", 2, "--workers", 2, "--segment-frames", 7]
    done = caflow("batch", clip, "-o", out, *options, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{clip} → {out}  36 frames\n"
    as_json = caflow("batch", clip, "-o", tmp_path / "json.mkv", *options, "--json", cwd=tmp_path, env=environment)
    assert sorted(json.loads(line)["frames"] for line in as_json.stdout.splitlines()) == [1, 7, 7, 7, 7, 7]
    (tmp_path / "json.mkv").unlink()
    with load(calibrated, backend="cpu", threads=1) as pipe:
        stream = pipe.open_stream(StreamSettings(Draw(3, seed=2)))
        video.Job(FileSource(clip), alone, stream, Encoding("h264", 18, 8), {}, segment_frames=7).run(resume=False)
    assert out.read_bytes() == alone.read_bytes()
    assert packets(out, "audio") == packets(clip, "audio")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["alone.mp4", "clip.mp4", "out.mp4"]


def test_a_worker_opens_the_same_bundle_or_none(calibrated: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.caflow"
    shutil.copytree(calibrated, copy)
    with load(calibrated, backend="cpu") as pipe:
        settings = settings_of_pipeline(pipe)
    place = Place(str(copy), settings, versions_here(), "cpu", 1, {})
    assert settings_of_pipeline(open_pipeline(place)) == settings
    (copy / CALIBRATION).write_text((copy / CALIBRATION).read_text() + " ")
    with pytest.raises(InputError, match="is another bundle, or another calibration, than where the command runs"):
        open_pipeline(place)
    with pytest.raises(InputError, match=r"wanted onnxruntime 1\.0, as where the command runs, found 1\.[1-9]"):
        open_pipeline(replace(place, versions={**versions_here(), "onnxruntime": "1.0"}))
    with pytest.raises(NoBundle, match="nowhere"):
        open_pipeline(replace(place, bundle=str(tmp_path / "nowhere")))


@pytest.mark.full
def test_images_are_those_of_one_process(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Of several sizes, also tiled, transparent and grey; one is broken, is reported, and is done once it is whole."""
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    for k, (height, width) in enumerate([(16, 16), (9, 13), (40, 24), (5, 5), (16, 16), (21, 8)]):
        write_image(folder / "below" / f"{k}.png", photograph(DATA / "photographs", k, height, width))
    picture = photograph(DATA / "photographs", 7, 9, 12)
    write_image(folder / "grey.png", picture, is_grey=True)
    write_image(folder / "alpha.png", picture, np.full((9, 12), 77, np.uint8))
    (folder / "bad.png").write_text("broken")
    options = ["--bundle", calibrated, "-n", 3, "--seed", 4, "--pixel-budget", 96 * 96, "--overlap", 16, "--json"]
    spread = ["batch", folder, "-o", out, *options, "--workers", 2]
    done = caflow(*spread, env=environment)
    wrong = f"caflow: {folder / 'bad.png'}: wanted an image (.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp), "
    wrong += "cannot decode this one: it is none, damaged, or too large"
    assert done.stderr == f"{wrong}\ncaflow: 1 of 9 images failed\n"
    assert done.returncode == 1
    assert done.stdout == (out / RESULTS).read_text()
    write_image(folder / "bad.png", picture)
    again = caflow(*spread, env=environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert [json.loads(line)["input"] for line in again.stdout.splitlines()] == [str(folder / "bad.png")]
    alone = caflow("image", folder, "-o", tmp_path / "alone", *options, "--threads", 2)
    reports = [json.loads(line) for line in alone.stdout.splitlines()]
    assert drawn_alike(out, lines_of(out / RESULTS), tmp_path / "alone", reports)


@pytest.fixture(scope="module")
def pairs(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 150 pairs, of two sizes, one of them broken."""
    folder = tmp_path_factory.mktemp("pairs")
    crops(folder / "B", 40, side=32)
    (folder / "A").mkdir()
    with load(calibrated, threads=1) as pipe:
        for path in (folder / "B").iterdir():
            target = read_image(path).rgb[: 16 if int(path.stem) % 2 else 32]
            write_image(path, target)
            write_image(folder / "A" / path.name, degrade(pipe.manifest.model, target))
    (folder / "A" / "007.png").write_text("broken")
    names = [f"{k % 40:03}.png" for k in range(150)]
    lines = [json.dumps({"target": f"B/{name}", "condition": f"A/{name}"}) for name in names]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return folder / "list.jsonl"


@pytest.mark.full
def test_verdicts_are_those_of_one_process(
    calibrated: Path, pairs: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """To the bit, in order; also of what is left of a job that one process began."""
    options = ["--bundle", calibrated, "--alpha", 0.1, "--accepted", "copy"]
    out, alone = tmp_path / "out", tmp_path / "alone"
    spread = caflow("batch", pairs, "-o", out, *options, "--workers", 2, env=environment)
    filtered = caflow("filter", pairs, "-o", alone, *options)
    assert spread.returncode == filtered.returncode == 1
    assert spread.stdout == filtered.stdout.replace(str(alone), str(out))
    assert sorted(spread.stderr.splitlines()) == sorted(filtered.stderr.splitlines())
    whole = (alone / "scores.jsonl").read_bytes()
    assert (out / "scores.jsonl").read_bytes() == whole
    assert {p.name for p in (out / "accepted").iterdir()} == {p.name for p in (alone / "accepted").iterdir()}
    (out / "scores.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:70]))
    caflow("batch", pairs, "-o", out, *options, env=environment)
    assert (out / "scores.jsonl").read_bytes() == whole
