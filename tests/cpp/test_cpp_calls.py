"""Calls of the C library: what it reads, errors for wrong calls and for files that change, and a thousand calls."""

import os
from pathlib import Path

import numpy as np
import pytest
from c_library import CError, CModel
from cpp_build import model, run
from tiny import TINY, photograph

__all__ = ["model"]  # a fixture

pytestmark = pytest.mark.usefixtures("built_cpp")


def test_wrong_calls_fail_with_a_status_and_a_message(
    model: CModel, copied: Path, tmp_path: Path, photographs: Path
) -> None:
    with pytest.raises(CError, match=r"no manifest\.json") as refused:
        CModel(tmp_path)
    assert refused.value.status == "bundle"
    with (copied / "weights.bin").open("r+b") as file:
        file.write(b"broken")
    with pytest.raises(CError, match=r"weights\.bin: the file is damaged: expected SHA-256"):
        CModel(copied)
    condition = photograph(photographs, 0, 16, 16)
    for wrong, message in (({"rank": 7}, "rank must be one of"), ({"flags": 64}, "flags")):
        with pytest.raises(CError, match=message) as refused:
            model.best_of([condition], **wrong)
        assert refused.value.status == "input"
    with pytest.raises(CError, match=r"sample 0 of images\[0\] is not finite") as refused:
        model.sample([condition], temperature=1e30, n=1)
    assert refused.value.status == "not finite"


def test_messages_are_utf_8_also_if_names_are_not(tmp_path: Path) -> None:
    with pytest.raises(CError, match="name-\N{REPLACEMENT CHARACTER}-é") as refused:
        CModel(tmp_path / os.fsdecode(b"name-\xff-\xc3\xa9"))
    assert refused.value.status == "bundle"


def test_a_model_may_be_opened_by_a_relative_path(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are loaded after the working directory has changed."""
    monkeypatch.chdir(TINY.parent)
    with CModel(Path(TINY.name)) as model:
        monkeypatch.chdir(tmp_path)
        model.best_of([photograph(photographs, 0, 8, 8)], n=1)


@pytest.mark.parametrize("name", ["weights.bin", "encode.onnx", "likelihood_1.onnx"])
def test_a_file_that_changes_before_reading_is_named(copied: Path, photographs: Path, name: str) -> None:
    condition = photograph(photographs, 0, 8, 8)
    target = np.repeat(np.repeat(condition, 4, 0), 4, 1)
    with CModel(copied) as model:
        if name == "likelihood_1.onnx":
            model.best_of([condition], n=1)  # does not load this graph
        good = (copied / name).read_bytes()
        (copied / name).write_bytes(bytes(value ^ 1 for value in good) if name == "weights.bin" else good[:-100])
        changed = rf"{name}: the file has changed since the bundle was opened: .*: open the bundle again"
        with pytest.raises(CError, match=changed) as refused:
            model.score([target], [condition])
        assert refused.value.status == "bundle"
        (copied / name).write_bytes(good)
        model.score([target], [condition])


def test_weights_that_change_between_two_graphs_are_named(copied: Path, photographs: Path, tmp_path: Path) -> None:
    condition = photograph(photographs, 0, 8, 8)
    with CModel(copied) as model:
        (best,) = model.best_of([condition], n=1)
        (tmp_path / "new.bin").write_bytes(bytes((copied / "weights.bin").stat().st_size))
        (tmp_path / "new.bin").replace(copied / "weights.bin")
        with pytest.raises(CError, match=r"weights\.bin: .*: open the bundle again"):
            model.score([best.rgb], [condition])


def test_a_folder_for_engines_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "engines").encode()
    refusal = r"engine_cache: cannot create the folder .*/file/engines/.*: Not a directory: choose a folder"
    with pytest.raises(CError, match=refusal) as refused:
        CModel(TINY, backend=b"tensorrt", engine_cache=cache)
    assert refused.value.status == "input"


def test_images_whose_rows_are_apart_in_memory_are_read(model: CModel, photographs: Path) -> None:
    whole = photograph(photographs, 0, 16, 40)
    (apart,), (together,) = (model.best_of([image], n=1) for image in (whole[:, :16], whole[:, :16].copy()))
    np.testing.assert_array_equal(apart.rgb, together.rgb)


@pytest.mark.full
def test_a_thousand_calls_do_not_grow_memory(built_cpp: Path) -> None:
    run("ctest", "--output-on-failure", "-R", "growth", cwd=built_cpp)
