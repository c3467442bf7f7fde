"""Output folder of a training run: refused, locked, full, complete, from another version, or with a damaged state."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import cv2
import pytest
import torch
from commands import caflow_export, caflow_train
from filelock import FileLock
from test_objective import ADVERSARIAL
from test_restart import in_two_processes
from test_trainer import short_recipe, write_recipe

from caflow_runtime.bundle import builtin
from caflow_runtime.file_io import atomic_files
from caflow_runtime.file_io.folder_lock import LOCK
from caflow_training import checkpoint
from caflow_training.photographs import DataError, find_photographs, read_rgb, split_by_file
from caflow_training.resuming import ADVERSARY, ResumeError
from caflow_training.trainer import train


@pytest.fixture
def few(photographs: Path, tmp_path: Path) -> Path:
    """A folder of three photographs."""
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(photographs.glob("*.jpg"))[:3]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def pairs(few: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    for name in ("A", "B"):
        shutil.copytree(few, folder / name)
    return folder


@pytest.mark.parametrize("place", [".", "run", "link/run"])
def test_an_output_inside_the_photographs_is_refused(place: str, few: Path) -> None:
    (few / "link").symlink_to(few, target_is_directory=True)
    out = few / place
    with pytest.raises(DataError, match=r"which is searched for photographs, .*: use an --out outside this folder"):
        train(short_recipe(), few, out)
    assert not (few / "run").exists()


def test_a_run_may_be_beside_the_folders_of_pairs(pairs: Path) -> None:
    """Only `A` and `B` are searched for photographs. A run is not resumed with other conditions."""
    recipe = short_recipe(task="image-to-image", steps=1)
    train(recipe, pairs, pairs / "run")
    with pytest.raises(DataError, match="use an --out outside this folder"):
        train(recipe, pairs, pairs / "B" / "run")
    changed = min((pairs / "A").iterdir())
    cv2.imwrite(str(changed), 255 - read_rgb(changed))
    with pytest.raises(ResumeError, match=r"photographs that differ .* --start \S+last\.pt to begin"):
        train(short_recipe(task="image-to-image", steps=2), pairs, pairs / "run")


def test_a_second_run_in_the_same_folder_is_refused_by_all_its_processes(few: Path, tmp_path: Path) -> None:
    """The second of two processes would otherwise report a lost connection, in a traceback."""
    recipe, out = write_recipe(tmp_path / "recipe.toml", steps=1, batch=2), tmp_path / "run"
    out.mkdir()
    with FileLock(out / LOCK):
        ended: list[Any] = [caflow_train(recipe, "--data", few, "--out", out)]
        ended += in_two_processes(f"{sys.executable} -m caflow_training.cli {recipe} --data {few} --out {out}")
    for done in ended:
        assert done.returncode == 2, done.stderr
        assert f"caflow-train: another caflow-train is writing to {out}: wait" in done.stderr
        assert "Connection closed" not in done.stderr
    caflow_train(recipe, "--data", few, "--out", out, code=0)
    assert not (out / LOCK).exists()


def test_a_full_disk_is_named_with_what_to_do(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recipe, out = write_recipe(tmp_path / "recipe.toml", steps=1), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "move_into_place", fill)
        done = caflow_train(recipe, "--data", few, "--out", out)
    assert done.returncode == 1
    assert f"{out / 'held-out.txt'}: No space left on device" in done.stderr
    assert not [path for path in out.iterdir() if path.suffix in (".partial", ".png", ".pt")]
    caflow_train(recipe, "--data", few, "--out", out, code=0)


def test_a_recipe_of_another_version_is_named_with_its_file(few: Path, tmp_path: Path) -> None:
    path = train(short_recipe(steps=1), few, tmp_path)
    contents = checkpoint.read(path)
    contents["training"]["recipe"]["abolished"] = 1
    torch.save(contents, path)
    with pytest.raises(ResumeError, match=r"last\.pt was written by another version .*'abolished'.* use another --out"):
        train(short_recipe(), few, tmp_path)


def test_the_photographs_that_are_held_out_are_named(few: Path, tmp_path: Path) -> None:
    train(short_recipe(steps=1), few, tmp_path / "run")
    recipe = short_recipe()
    _, held_out = split_by_file(find_photographs(few, recipe.model.task, 32), recipe.training.validation_share)
    assert (tmp_path / "run" / "held-out.txt").read_text().splitlines() == list(map(str, held_out.targets))
    (few / "other.jpg").write_bytes(held_out.targets[0].read_bytes())
    with pytest.raises(ResumeError, match="photographs that differ"):  # the list stays that of the run
        train(short_recipe(steps=2), few, tmp_path / "run")
    assert (tmp_path / "run" / "held-out.txt").read_text() == f"{held_out.targets[0]}\n"


def test_a_run_starts_from_a_built_in_model_by_its_name(few: Path, tmp_path: Path) -> None:
    model = {"scale": 2, "levels": 2, "dependencies": "dual-glow", "image_width": 16, "conditional_width": 16}
    recipe = write_recipe(tmp_path / "recipe.toml", steps=1, **model)
    done = caflow_train(recipe, "--data", few, "--out", tmp_path / "run", "--start", "x2-video", code=0)
    assert f"starting from {builtin.MODELS / 'x2-video.caflow'}: " in done.stderr


def test_a_finished_run_says_how_to_continue(few: Path, tmp_path: Path) -> None:
    path = train(short_recipe(steps=2), few, tmp_path / "run")
    before = path.read_bytes()
    said: list[str] = []
    train(short_recipe(steps=2), few, tmp_path / "run", said.append)
    assert f"{path} is complete" in said[-1]
    assert path.read_bytes() == before
    train(short_recipe(steps=3), few, tmp_path / "run", said.append)
    assert said[-1] == f"resuming from step 2 of {path}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["tyni"], "caflow-train: tyni is neither a recipe file nor"),
        (["tiny", "--data", "empty"], "expected photographs; neither this folder nor its subfolders contain a file"),
        (["tiny", "--start", "x2-vidoe"], "x2-vidoe: there is no such file or folder"),
        (["tiny", "--out", os.fsdecode(b"\xff")], "caflow-train: the name of --out is not valid UTF-8"),
        (["tiny", "--vgg16", "weights.pt"], "--vgg16: no effect on tiny"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    given: list[str], message: str, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("weights.pt").touch()
    done = caflow_train("--data", few, "--out", "run", *given, code=2)
    assert message in done.stderr
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path, few}


Damage = Callable[[dict[str, Any]], object]


def moments(damaged: Callable[[torch.Tensor], Any]) -> Damage:
    """Return what replaces both moments of every parameter."""

    def damage(contents: dict[str, Any]) -> None:
        for state in contents["training"]["optimizer"]["state"].values():
            state |= {name: damaged(state[name]) for name in checkpoint.MOMENTS}

    return damage


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(short_recipe(steps=1, **ADVERSARIAL), photographs, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (moments(lambda _: torch.zeros(3)), "optimizer"),
        (moments(lambda tensor: tensor.to("meta")), "optimizer"),
        (moments(lambda tensor: tensor.long()), "optimizer"),
        (lambda stored: stored["training"]["optimizer"]["state"][0].update(step=torch.tensor(torch.nan)), "optimizer"),
        (lambda stored: stored["training"]["optimizer"].update(state={10**6: {}}), "optimizer"),
        (lambda stored: stored["training"]["optimizer"].clear(), "optimizer"),
        (lambda stored: stored["training"].update(step=-1), "step"),
        (lambda stored: stored["training"].update(step=10**30), "step"),
        (lambda stored: stored.update(weights={k: v.to("meta") for k, v in stored["weights"].items()}), "weight"),
        (lambda stored: stored["training"][ADVERSARY]["weights"].update({"last.bias": torch.zeros(2)}), "'last.bias'"),
        (lambda stored: stored["training"][ADVERSARY]["weights"].pop("last.bias"), "'last.bias'"),
        (lambda stored: stored["training"].pop(ADVERSARY), "the discriminator is missing"),
    ],
)
def test_a_damaged_state_is_refused(
    damage: Damage, message: str, trained: Path, photographs: Path, tmp_path: Path
) -> None:
    contents = checkpoint.read(trained)
    damage(contents)
    torch.save(contents, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    recipe = write_recipe(tmp_path / "recipe.toml", steps=2, **ADVERSARIAL)
    done = caflow_train(recipe, "--data", photographs, "--out", tmp_path, code=2)
    (line,) = (line for line in done.stderr.splitlines() if "last.pt is damaged: " in line)
    assert message in line
    assert "Traceback" not in done.stderr
    assert (tmp_path / "last.pt").read_bytes() == before


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
