"""Scored pairs and the `scores.jsonl` with them, for the tests of the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny import pairs_of_photographs

from caflow_deploy.filtering.verdicts import verdicts_of
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.pairs import FilePair
from caflow_runtime.file_io.line_checksum import with_checksum
from caflow_runtime.ood.calibration import Calibration, read_calibration
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import load

ALPHA = 0.1
Entry = dict[str, Any]


@pytest.fixture(scope="session")
def entries(calibrated: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Lines about crops of photographs, and about two targets of noise."""
    folder = tmp_path_factory.mktemp("pairs")
    with load(calibrated) as pipe:
        images = [(pair.target, pair.condition) for pair in pairs_of_photographs(pipe, photographs, each=3)]
        noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        images += [(target, images[0][1]) for target in noise]
        pairs = [FilePair(str(folder / f"{k}.png"), str(folder / f"{k}-small.png")) for k in range(len(images))]
        for paths, pictures in zip(pairs, images, strict=True):
            for path, picture in zip(paths, pictures, strict=True):
                write_image(Path(path), picture)
        return [msgspec.to_builtins(verdict) for verdict in verdicts_of(pipe, pairs, ALPHA)]


@pytest.fixture
def calibration(calibrated: Path) -> Calibration:
    found = read_calibration(calibrated)
    assert found is not None
    return found


def line_of(entry: Entry) -> str:
    """Return a line as caflow filter writes it. The values may be wrong; then its checksum is, too."""
    try:
        sha256 = with_checksum(msgspec.convert(entry, Verdict)).sha256
    except msgspec.ValidationError:
        sha256 = "0"
    return json.dumps(entry | {"sha256": sha256}) + "\n"


@pytest.fixture
def scores(tmp_path: Path) -> Callable[[list[Entry]], Path]:
    """Return a function that writes lines to a file, with the `job.json` beside it."""

    def write(entries: list[Entry]) -> Path:
        path = tmp_path / "scores.jsonl"
        path.write_text("".join(map(line_of, entries)))
        (tmp_path / "job.json").write_text(json.dumps({"settings": {"min_typicality": ALPHA, "precision": "fp32"}}))
        return path

    return write
