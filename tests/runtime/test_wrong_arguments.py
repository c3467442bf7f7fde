"""Arguments of wrong types and values: each public function refuses them with an error of the runtime, or accepts them.

The errors of inner functions, such as a TypeError of NumPy, would not say which argument is wrong.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import TINY

from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import CaflowError
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline, load

SMALL, TARGET = np.full((2, 2, 3), 100, np.uint8), np.full((8, 8, 3), 90, np.uint8)
WRONG: list[Any] = [
    *(None, True, "x", "", "a\0b.png", "\udce9", b"x", -1, 0, 1.5, float("nan"), 10**5000, 1j, object(), int),
    *([], {}, set(), (), range(3), [None], ["x"], [[1]], {1: 2}),
    *(Path("/nonexistent/a.png"), np.float32(0.5), np.int8(2)),
    *(np.array([]), np.array("x"), np.array(None), np.array([object()]), np.datetime64("2020"), np.zeros((2, 2))),
    *(SMALL[:0], SMALL.astype(float), SMALL.astype(bool), SMALL.astype(complex), SMALL.astype("datetime64[s]")),
    *(SMALL[None, None], SMALL[..., 0], SMALL[..., :2], SMALL.astype(np.int64), np.ma.masked_array(SMALL)),
]
SAMPLING = {"n": 1, "temperature": 0.8, "seed": 0}

Function = Callable[..., Any]


def opened(**given: Any) -> None:
    load(**given).close()


def functions(pipe: Pipeline, folder: Path) -> dict[str, tuple[Function, dict[str, Any]]]:
    """Return the public functions, each with good arguments."""
    write_image(folder / "in.png", SMALL)
    metadata, score = read_image(folder / "in.png").metadata, pipe.score(TARGET, SMALL)
    assert score.image_typicality is not None
    choosing = {**SAMPLING, "frame": 0, "rank": "likelihood", "consistent": False}
    running = {"backend": "cpu", "threads": 1, "tiling": Tiling()}
    rejecting = {"min_typicality": 0.1, "redraws": 1, "otherwise": "keep", "judge": "sample"}
    written = {"path": folder / "out.png", "rgb": SMALL, "alpha": SMALL[..., 0].copy(), "is_grey": False}
    return {
        "load": (opened, {"model": TINY, **running, "is_calibrated": True, "assume": None}),
        "best_of": (
            pipe.best_of,
            {"images": SMALL, **choosing, "options": None, "keep": None, "show": None, "judge": "sample"},
        ),
        "sample": (pipe.sample, {"images": SMALL, **choosing, "options": None, "show": None}),
        "run": (pipe.run, {"condition": SMALL[None], **SAMPLING, "frame": 0}),
        "stream": (
            lambda **given: list(pipe.stream(**given)),
            {"frames": [SMALL], **SAMPLING, "rank": "likelihood", "noise": "fixed", "batch": 1, "size": None},
        ),
        "score": (pipe.score, {"target": TARGET, "condition": SMALL, "show": None}),
        "encode": (pipe.encode, {"target": TARGET, "condition": SMALL}),
        "decode": (pipe.decode, {"noise": pipe.encode(TARGET, SMALL).noise, "condition": SMALL}),
        "tiles": (pipe.tiles, {"condition": SMALL}),
        "DrawOptions": (DrawOptions, {**choosing, "keep": None, **rejecting}),
        "Tiling": (Tiling, {"pixel_budget": 2**20, "overlap": 64}),
        "verdicts": (score.verdicts, {"min_typicality": 0.1}),
        "accept": (score.image_typicality.accept, {"min_typicality": 0.1}),
        "read_image": (read_image, {"path": folder / "in.png", "max_pixels": 2**20}),
        "write_image": (write_image, {**written, "metadata": metadata, "quality": 90}),
        "for_result": (metadata.for_result, {"width": 2, "height": 2}),
    }


@pytest.fixture
def pipe() -> Iterator[Pipeline]:
    with load(TINY, backend="cpu", threads=1) as pipe:
        yield pipe


def test_wrong_arguments_are_refused_with_an_error_of_the_runtime(pipe: Pipeline, tmp_path: Path) -> None:
    """A function of the caller, such as `show`, may raise what it likes."""
    unexpected = []
    for name, (function, good) in functions(pipe, tmp_path).items():
        function(**good)
        for argument in good:
            for value in WRONG:
                if callable(value) and argument == "show":
                    continue
                try:
                    with warnings.catch_warnings(action="ignore"):
                        function(**good | {argument: value})
                except (CaflowError, OSError):
                    continue
                except Exception as error:
                    unexpected.append(f"{name}({argument}={type(value).__name__}): {error!r:.100}")
    assert not unexpected, "\n".join(unexpected)
