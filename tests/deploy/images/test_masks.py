"""`caflow image --mask`: masks of a folder, new masks, and wrong ones."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from commands import caflow, json_lines_of, messages
from tiny import photograph

from caflow_deploy.images.image_files import write_image
from caflow_deploy.jobs.image_folder import RESULTS
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.named_inputs import check_takes, prepare_condition

HEIGHT, WIDTH = 50, 37
"""Sides that are not multiples of those that the model requires."""
HOLE = slice(9, 25), slice(20, 37)


def write_mask(path: Path, hole: tuple[slice, slice] = HOLE, white: int = 255) -> Path:
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[hole] = white
    write_image(path, mask)
    return path


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """Folder with two photographs in `in`, and the mask of each in `masks`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    for number, name in enumerate(("a", "b")):
        write_image(tmp_path / "in" / f"{name}.png", photograph(photographs, number, HEIGHT, WIDTH))
        write_mask(tmp_path / "masks" / f"{name}.bmp")
    return tmp_path


@pytest.fixture
def bundle(completing: dict[str, Path]) -> Path:
    """Bundle of a small inpainting model. The content of its samples does not matter."""
    return completing["masked-inpainting"]


def fill(bundle: Path, *arguments: object) -> list[str]:
    """Return the lines on standard output."""
    return caflow("image", *arguments, "--model", bundle, "-n", 2, code=0).stdout.splitlines()


def test_a_folder_has_a_mask_for_each_and_a_new_mask_is_done_again(bundle: Path, folder: Path) -> None:
    given = [folder / "in", "--mask", folder / "masks", "-o", folder / "out"]
    assert len(fill(bundle, *given)) == 2
    assert fill(bundle, *given) == [f"{folder / 'out'} is already complete"]
    before = (folder / "out" / "b.png").read_bytes()
    write_mask(folder / "masks" / "b.bmp", (slice(0, 16), slice(0, 16)))
    (again,) = fill(bundle, *given)
    assert again.startswith(f"{folder / 'in' / 'b.png'} → ")
    assert (folder / "out" / "b.png").read_bytes() != before
    write_mask(folder / "one.png")
    assert len(fill(bundle, folder / "in", "--mask", folder / "one.png", "-o", folder / "out")) == 2
    assert {line["mask"] for line in json_lines_of(folder / "out" / RESULTS)} == {str(folder / "one.png")}


def test_what_is_wrong_with_a_mask_is_said(bundle: Path, folder: Path) -> None:
    given, mask = folder / "in" / "a.png", folder / "masks" / "a.bmp"
    write_image(folder / "small.png", np.full((HEIGHT, WIDTH - 1, 3), 255, np.uint8))
    write_mask(folder / "dark.png", white=127)
    (folder / "masks" / "below").mkdir()
    write_mask(folder / "masks" / "below" / "b.png")
    for options, code, said in (
        ([given, "--mask", folder / "small.png"], 1, f"{given}: {folder / 'small.png'}: the mask must be as large"),
        ([given, "--mask", folder / "dark.png"], 1, f"{given}: {folder / 'dark.png'}: the mask has no white"),
        ([folder / "in", "--mask", folder / "masks"], 2, f"{folder / 'in' / 'b.png'}: expected one mask"),
        ([given, "--mask", mask, "--model", "x4-photo"], 2, "has no input 'mask'"),
        ([given, "--mask", mask, "-o", mask, "--force"], 2, f"{mask} is the mask of an image"),
    ):
        done = caflow("image", "--model", bundle, "-o", folder / "out", "-n", 1, *options, code=code)
        assert said in messages(done.stderr)[0]


def test_a_model_takes_only_the_inputs_that_its_bundle_names(bundle: Path, photographs: Path) -> None:
    model, given = read_manifest(bundle).model, photograph(photographs, 0, HEIGHT, WIDTH)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[HOLE] = True
    condition = prepare_condition(model, given, {"mask": mask})
    np.testing.assert_array_equal(condition[..., 3] == 0, mask)
    np.testing.assert_array_equal(condition[~mask, :3], given[~mask])
    for wrong in (mask.astype(np.uint8), mask[1:], None):
        with pytest.raises(InputError, match="mask: expected a bool array of the image's size"):
            prepare_condition(model, given, {"mask": wrong})
    with pytest.raises(InputError, match="no input 'hints': it takes mask"):
        prepare_condition(model, given, {"hints": mask})
    central = msgspec.structs.replace(model, inputs=[], can_be_tiled=False)
    with pytest.raises(InputError, match="takes the image alone"):
        check_takes(central, "mask")
