"""Bundles as checkpoints: their weights can be trained further and exported again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import caflow_export
from tiny import edited

from caflow_export.export import ExportReport
from caflow_export.manifest_entries import source_of
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.bundle.stored_checkpoint import NAME, WEIGHTS
from caflow_training import checkpoint
from caflow_training.adversarial import Adversary
from caflow_training.checkpoint import CheckpointError
from caflow_training.config import ConfigError

Stored = dict[str, Any]


@pytest.fixture
def folder(least_exported: Path, tmp_path: Path) -> Path:
    """Copy of a bundle that tests may damage."""
    return Path(shutil.copytree(least_exported, tmp_path / "copy.caflow"))


def test_a_bundle_holds_the_model_that_it_was_exported_from(least_exported: Path, least: Path) -> None:
    found, model = checkpoint.load(least_exported), checkpoint.load(least)
    assert found.config == model.config
    assert list(found.state_dict()) == list(model.state_dict())
    same = zip(found.state_dict().values(), model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_a_bundle_in_fp32_can_be_exported_again(least_exported: Path, exported_half: ExportReport) -> None:
    """Only a bundle in fp32 contains a checkpoint. The fixture `exported_half` was exported from such a bundle."""
    here = caflow_export(least_exported, "-o", least_exported, "--force", code=2)
    assert "is both the input and the output" in here.stderr
    half = exported_half.manifest
    assert half.precision == "fp16"
    assert half.source.training == read_manifest(least_exported).source.training == {"step": 7}
    with pytest.raises(CheckpointError, match=r"half\.caflow: expected a checkpoint or a bundle with a checkpoint"):
        checkpoint.load(exported_half.path)


def test_what_only_a_resumed_training_needs_is_not_exported(least: Path, tmp_path: Path) -> None:
    contents = checkpoint.read(least)
    adversary = Adversary(torch.device("cpu"))
    training = {**contents["training"], "optimizer": adversary.optimizer.state_dict(), "adversary": adversary.state()}
    checkpoint.save(tmp_path / "adversarial.pt", checkpoint.load(least), training=training)
    assert source_of(tmp_path / "adversarial.pt").training == {"step": 7}


def _any(stored: Stored) -> Stored:
    """Return the weight with the most values."""
    found: Stored = max(stored["weights"].values(), key=lambda weight: np.prod(weight["shape"]))
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.update(format="other"), "expected a CAFLOW checkpoint"),
        (lambda stored: stored.pop("config"), "missing required field .config"),
        (lambda stored: stored.update(more=1), "unknown field .more"),
        (lambda stored: stored.update(sha256="0" * 64), "differ from the exported weights"),
        (
            lambda stored: stored["config"].update(log_scale_bound=1.5),
            "its settings differ from those that were exported",
        ),
        (lambda stored: stored["weights"].update(a=stored["weights"].popitem()[1]), "differ from the exported weights"),
        (lambda stored: _any(stored)["shape"].__setitem__(0, 2**40), "require more values than the file has"),
        (lambda stored: _any(stored)["shape"].clear(), "no weights can be assembled"),
        (lambda stored: _any(stored)["pieces"][0].__setitem__(1, 2**62), "no weights can be assembled"),
        (lambda stored: _any(stored)["pieces"][0].__setitem__(1, -4), ">= 0"),
        (lambda stored: _any(stored)["pieces"][0].__setitem__(0, "float64"), "Invalid enum value 'float64'"),
    ],
)
def test_a_changed_description_of_the_checkpoint_is_refused(
    folder: Path, change: Callable[[Stored], object], message: str
) -> None:
    with edited(folder, NAME) as stored:
        change(stored)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        checkpoint.load(folder)


def test_damaged_files_are_refused(folder: Path) -> None:
    written = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(written[:-64])
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)
    (folder / WEIGHTS).write_bytes(written[:-2] + b"\1\1")
    with pytest.raises(CheckpointError, match="differ from the exported weights"):
        checkpoint.load(folder)
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)
    for contents in (b"", b"[" * 100_000, b"\xff", b"{}"):
        (folder / NAME).write_bytes(contents)
        with pytest.raises(CheckpointError):
            checkpoint.load(folder)
    (folder / NAME).unlink()
    with pytest.raises(CheckpointError, match="the folder has no checkpoint"):
        checkpoint.load(folder)
