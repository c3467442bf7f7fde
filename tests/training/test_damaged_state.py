"""Checkpoints whose state of training is damaged: a clear error, before anything is computed with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
import torch
from commands import caflow_export, caflow_train
from test_trainer import short_recipe, write_recipe

from caflow_training import checkpoint
from caflow_training.trainer import train

Damage = Callable[[dict[str, Any]], object]


def moments(damaged: Callable[[torch.Tensor], Any]) -> Damage:
    """Return what replaces both moments of every parameter."""

    def damage(contents: dict[str, Any]) -> None:
        for state in contents["training"]["optimizer"]["state"].values():
            state |= {name: damaged(state[name]) for name in checkpoint.MOMENTS}

    return damage


def adam_step(value: Any) -> Damage:
    return lambda contents: contents["training"]["optimizer"]["state"][0].update(step=value)


def step(value: Any) -> Damage:
    return lambda contents: contents["training"].update(step=value)


def on_meta(table: str) -> Damage:
    return lambda contents: contents.update({table: {k: v.to("meta") for k, v in contents[table].items()}})


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(short_recipe(steps=1), photographs, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    "damage",
    [
        moments(lambda _: torch.zeros(3)),
        moments(lambda _: torch.zeros(100_000)),
        moments(lambda tensor: tensor.to("meta")),
        moments(lambda tensor: tensor.long()),
        moments(lambda _: None),
        adam_step(torch.tensor(-1.0)),
        adam_step(torch.tensor(float("nan"))),
        adam_step(torch.ones(3)),
        lambda contents: contents["training"]["optimizer"].update(state={10**6: {}}),
        lambda contents: contents["training"]["optimizer"].clear(),
        step(-1),
        step(10**30),
        on_meta("weights"),
        on_meta("ema"),
    ],
)
def test_a_damaged_state_is_refused(damage: Damage, trained: Path, photographs: Path, tmp_path: Path) -> None:
    contents = checkpoint.read(trained)
    damage(contents)
    torch.save(contents, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    done = caflow_train(write_recipe(tmp_path / "recipe.toml", steps=2), "--data", photographs, "--out", tmp_path)
    assert done.returncode == 2
    assert "last.pt is damaged: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "last.pt").read_bytes() == before


def test_the_form_of_moments_does_not_matter(trained: Path, photographs: Path, tmp_path: Path) -> None:
    """Such as that of a state whose moments share memory, which Adam would mix up."""
    contents = checkpoint.read(trained)
    moments(lambda tensor: torch.zeros(()).expand(tensor.shape))(contents)
    torch.save(contents, tmp_path / "last.pt")
    train(short_recipe(steps=2), photographs, tmp_path)
    states = checkpoint.read(tmp_path / "last.pt")["training"]["optimizer"]["state"]
    assert any(len(state["exp_avg"].unique()) > 1 for state in states.values())


@pytest.mark.parametrize("kind", [ZIP_DEFLATED, ZIP_STORED], ids=["compressed", "repeated"])
def test_parts_that_are_larger_than_the_file_are_not_read(
    kind: int, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part of 100 MB that an archive of 0.7 MB lists 10,000 times would take hours to read."""
    path = tmp_path / "last.pt"
    with ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
        archive.filelist = archive.filelist * 3
    monkeypatch.setattr(ZipFile, "open", lambda *_: pytest.fail("a part was read"))
    for done in (
        caflow_train(write_recipe(tmp_path / "recipe.toml"), "--data", photographs, "--out", tmp_path),
        caflow_export(path, "-o", tmp_path / "out.caflow"),
    ):
        assert done.returncode == 2
        assert "last.pt is not a checkpoint" in done.stderr
