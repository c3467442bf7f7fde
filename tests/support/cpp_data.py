"""Data for the C++ tests: bundles that Python refuses, and noise, consistencies and statistics computed in Python.

Usage: python tests/support/cpp_data.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from test_bundle import a_bundle, wrong_bundles
from tiny import DATA, TINY, edited, photograph

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.flow.latent_statistics import statistics_of, sums_of
from caflow_runtime.flow.noise import DriftingNoise, NoiseWindow, draw_window_noise, philox
from caflow_runtime.flow.tiles import cut
from caflow_runtime.ood.calibration import NAME as CALIBRATION
from caflow_runtime.ood.typicality import covariates
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.scenes import SceneCuts

CALLS = 10_000
SIDE = 128
LARGEST_SEED_BYTES = 2**14
PHOTOGRAPHS = DATA / "photographs"
PERSISTENCE = 0.9
MODELS = Path(__file__).parents[2] / "models"
BUNDLES = [TINY, *(MODELS / f"{name}.caflow" for name in ("x2-video", "inpaint-photo", "colour-hints"))]
"""Bundles with graphs `degrade` of all kinds: they reduce, or read the condition. One more sees grey alone."""


def write_bundles(folder: Path) -> None:
    """Write each wrong bundle with expected.txt: the names of the accepted errors, and a regular expression that the
    message must match."""
    for number, wrong in enumerate(wrong_bundles()):
        (folder / f"{number}").mkdir(parents=True)
        wrong.make(folder / f"{number}" / "bundle")
        names = " ".join(error.__name__ for error in wrong.errors)
        (folder / f"{number}" / "expected.txt").write_text(f"{names}\n{wrong.message}\n")


def write_noise(folder: Path) -> None:
    """Write Philox words, each line with a counter, a key and the four results, and fresh and drifting noise."""
    words = np.random.default_rng(0).integers(0, 2**32, (CALLS, 6), np.uint32)
    lines = []
    for row in words:
        given = [int(word) for word in row]
        made = philox([np.array([word], np.uint32) for word in given[:4]], (given[4], given[5]))
        lines.append(" ".join(map(str, [*given, *(int(word[0]) for word in made)])))
    (folder / "philox.txt").write_text("\n".join(lines) + "\n")
    normals = draw_window_noise(
        [4], 2, NoiseWindow(1000, 70_000, SIDE, SIDE, (4_000_000_000,)), seed=2**32 - 1, frame=7
    )
    (folder / "normals.bin").write_bytes(normals.tobytes())
    drifting = DriftingNoise(PERSISTENCE)
    drifting.restart(3)
    (folder / "drifted.bin").write_bytes(drifting([6], 1, NoiseWindow(5, 7, 8, 12, (0, 9)), seed=1, frame=8).tobytes())


def write_consistencies(folder: Path) -> None:
    """Write images and conditions for each bundle with their consistency, and projected samples where it enlarges."""
    cases, rng = [], np.random.default_rng(0)
    for number, bundle in enumerate([*BUNDLES, _grey_bundle(folder)] * 2):
        with load(bundle, backend="cpu") as pipe:
            scale = pipe.manifest.model.scale
            image = photograph(PHOTOGRAPHS, number, scale * 24, scale * 37)
            condition = _condition(pipe, photograph(PHOTOGRAPHS, number, scale * 24 + 1, scale * 37)[1:])
            case: dict[str, Any] = {"bundle": str(bundle), "image": image, "condition": condition}
            case["consistency"] = pipe.consistency.psnr(image, condition)
            case["covariates"] = covariates(condition, pipe.manifest.model)
            if scale > 1:
                noisy = (image + rng.normal(0.5, 20, image.shape)).astype(np.float32)
                projected = np.rint(pipe.consistency.projected(noisy, condition)).astype(np.uint8)
                case |= {"pixels": noisy, "projected": projected}
            cases.append(case)
    _write_json(folder / "consistencies.json", cases)


def write_latents(folder: Path) -> None:
    """Write the windows of an image, the latents of each window, and the statistics of the whole image.

    The sides of the image are not multiples of the cells, so that padding is tested too.
    """
    rng, channels = np.random.default_rng(0), [[5, 1, 3], [2, 4], [3]]
    windows = cut(93, 77, 16, 48 * 48, 8)
    latents, sums = [], []
    for window in windows:
        of_window = []
        for cell, counts in zip((16, 8, 4), channels, strict=True):
            means = rng.normal(0, 1, (sum(counts), 1, 1))
            spread = rng.normal(0.1, 1.5, (sum(counts), window.y.length // cell, window.x.length // cell))
            of_window.append((means + spread).astype(np.float32))
        latents.append(of_window)
        parts = zip(of_window, channels, strict=True)
        sums.append([block for z, counts in parts for block in sums_of(z, counts, window)])
    together = [sum(blocks[1:], blocks[0]) for blocks in zip(*sums, strict=True)]
    axes = [[{"start": axis.start, "weights": axis.weights.tolist()} for axis in (w.y, w.x)] for w in windows]
    case = {"channels": channels, "windows": axes, "latents": latents, "statistics": statistics_of(together)}
    _write_json(folder / "latents.json", case)


def write_scenes(folder: Path) -> None:
    """Write frames, and for each frame whether it starts a scene."""
    first, second = (photograph(PHOTOGRAPHS, number, 150, 200) for number in (0, 4))
    dark = (first * 0.5).astype(np.uint8)
    frames = [first, np.roll(first, 3, 1), dark, second, second[:140], first[:70, :90], second[:70, :90]]
    is_cut = SceneCuts()
    _write_json(folder / "scenes.json", [{"frame": frame, "cut": is_cut(frame)} for frame in frames])


def _condition(pipe: Pipeline, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a condition of the target: reduced if the model enlarges, or with a mask."""
    if pipe.manifest.model.scale > 1:
        return pipe.consistency.degraded(target)
    mask = np.full(target.shape[:2], 255, np.uint8)
    mask[5:15, 8:20] = 0
    return np.dstack([target, mask])


def _grey_bundle(folder: Path) -> Path:
    """Write a bundle whose model sees the luma of its conditions alone."""
    bundle = Path(shutil.copytree(TINY, folder / "grey.caflow", ignore=shutil.ignore_patterns(CALIBRATION)))
    with edited(bundle) as manifest:
        manifest["model"]["condition_color"] = "gray"
    return bundle


def _write_json(path: Path, value: Any) -> None:
    """Write a value as JSON. An array becomes an object with its shape and the flat list of its values."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        return {"shape": value.shape, "values": value.ravel().tolist()}

    path.write_text(json.dumps(value, default=plain))


def write_seeds(folder: Path) -> None:
    """Write the manifests from which the fuzzer starts: a good one, and the small wrong ones."""
    folder.mkdir()
    a_bundle(folder.with_name("good"))
    manifests = folder.parent.glob("**/" + MANIFEST)
    for number, path in enumerate(sorted(manifests)):
        if path.stat().st_size < LARGEST_SEED_BYTES:
            shutil.copy(path, folder / f"{number}.json")


def write(folder: Path) -> None:
    """Write all data into a folder that is empty or does not exist."""
    write_bundles(folder / "bundles")
    write_seeds(folder / "seeds")
    write_noise(folder)
    write_consistencies(folder)
    write_latents(folder)
    write_scenes(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())
