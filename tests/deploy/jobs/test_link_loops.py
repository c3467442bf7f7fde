"""Links that lead to themselves, in place of inputs, outputs, masks and bundles."""

from pathlib import Path

import pytest
from commands import Done, caflow, caflow_train
from filter_data import write_list
from tiny import DATA, TINY, photograph

from caflow_runtime.file_io.real_path import real_path
from caflow_runtime.image_io.image_files import write_image
from caflow_runtime.jobs.pairs import FilePair

OPTIONS = ["-n", 1, "--threads", 1]


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    link = tmp_path / "loop"
    link.symlink_to(link)
    return link


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    write_image(path, photograph(DATA / "photographs", 0, 16, 16))
    return path


def test_the_real_path_of_a_loop_is_the_link_itself(loop: Path) -> None:
    assert real_path(loop) == real_path(loop.parent) / "loop"
    assert real_path(loop / "below" / ".." / "x") == real_path(loop.parent) / "loop" / "x"


@pytest.mark.parametrize("below", ["", "x", "x.png"])
def test_a_loop_as_output_is_refused_in_one_line(loop: Path, image: Path, below: str) -> None:
    outputs: list[Done] = [
        caflow("image", image, "-o", loop / below, "--bundle", TINY, *OPTIONS, code=2),
        caflow("filter", write_list(loop.with_name("list.jsonl"), [FilePair("a", "b")]), "-o", loop / below, code=2),
        caflow_train("tiny", "--data", DATA / "photographs", "--out", loop / below),
    ]
    assert all(done.returncode in (1, 2) and str(loop) in done.stderr for done in outputs)


def test_a_loop_as_input_bundle_or_mask_is_refused_in_one_line(
    loop: Path, image: Path, tmp_path: Path, completing: dict[str, Path]
) -> None:
    refused = caflow("image", loop, "-o", tmp_path / "out", "--bundle", TINY, code=2)
    assert "found no image" in refused.stderr
    refused = caflow("image", image, "-o", tmp_path / "out", "--bundle", loop, code=2)
    assert "there is no such folder" in refused.stderr
    bundle = completing["masked-inpainting"]
    refused = caflow("image", image, "-o", tmp_path / "out", "--mask", loop, "--bundle", bundle, *OPTIONS, code=1)
    assert "loop: cannot be read: Too many levels of symbolic links" in refused.stderr
