"""Training data: usable photographs, their split into two parts, and batches of crops."""

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from described import png_chunk

from caflow_training.crop_sampler import TRAINING_STREAM, CropSampler
from caflow_training.photographs import DataError, find_photographs, read_rgb, split_by_file
from caflow_training.recipe import TrainingConfig
from caflow_training.tasks import ImageToImage, SuperResolution, Task

CONFIG = TrainingConfig(crop=32, crop_scales=(1.0, 0.5))
UNREADABLE = "cannot be read: the file is damaged, incomplete, not accessible or of an unsupported format"


def crops(folder: Path, config: TrainingConfig = CONFIG, task: Task = SuperResolution()) -> CropSampler:  # noqa: B008
    return CropSampler(find_photographs(folder, task, config.crop), task, config, TRAINING_STREAM)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with empty folders for conditions and targets."""
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
    return tmp_path


def test_a_batch_depends_on_the_seed(photographs: Path) -> None:
    whole = crops(photographs).batch(5, range(4))
    reseeded = crops(photographs, TrainingConfig(crop=32, seed=1)).batch(5, range(4))
    assert not torch.equal(whole.targets, reseeded.targets)
    assert whole.targets.shape == (4, 3, 32, 32)
    assert whole.conditions.shape == (4, 3, 8, 8)
    assert whole.target_u.min() >= 0
    assert whole.target_u.max() < 1


def test_no_photograph_is_used_for_both_training_and_validation(photographs: Path, tmp_path: Path) -> None:
    found = find_photographs(photographs, SuperResolution(), 32)
    training, held_out = split_by_file(found, 0.2)
    assert len(held_out.targets) == 3
    assert sorted(training.targets + held_out.targets) == found.targets
    for path in photographs.glob("*.jpg"):
        shutil.copy(path, tmp_path)
    moved = split_by_file(find_photographs(tmp_path, SuperResolution(), 32), 0.2)[1]
    assert [path.name for path in moved.targets] == [path.name for path in held_out.targets]


def test_unreadable_files_are_listed_and_skipped(photographs: Path, tmp_path: Path) -> None:
    for name in ("casa-mila.jpg", "tea-gardens.jpg"):
        shutil.copy(photographs / name, tmp_path)
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    whole = (photographs / "casa-mila.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("ignored")
    shutil.copytree(photographs, tmp_path / "enlarged")
    (tmp_path / "enlarged" / "job.json").write_text('{"command": "caflow image"}')
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((16, 64, 3), np.uint8))
    header = struct.pack(">IIBBBBB", 32_000, 32_000, 1, 0, 0, 0, 0)
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b""))
    found = find_photographs(tmp_path, SuperResolution(), 32)
    assert [path.name for path in found.targets] == ["casa-mila.jpg", "tea-gardens.jpg"]
    assert "max_pixels" in found.skipped.pop(tmp_path / "large.png")  # the key of the recipe that raises the limit
    with pytest.raises(DataError, match=r"\.jpg .*max_pixels"):
        CropSampler(found, SuperResolution(), replace(CONFIG, max_pixels=1000), TRAINING_STREAM).batch(0, range(1))
    assert {path.name: reason for path, reason in found.skipped.items()} == {
        "empty.jpg": UNREADABLE,
        "enlarged": "contains results of an earlier job",
        "half.jpg": UNREADABLE,
        "text.png": UNREADABLE,
        "small.png": "is 64×16, but both sides must have at least 32 pixels",
    }


def test_a_folder_without_usable_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name ends in \.bmp, \.jpeg, .*Links to folders are not followed"):
        find_photographs(tmp_path, SuperResolution(), 32)
    (tmp_path / "broken.png").write_text("not an image")
    with pytest.raises(DataError, match=r"can be used; the first one: .*broken.png cannot be read"):
        find_photographs(tmp_path, SuperResolution(), 32)


def test_one_photograph_is_kept_for_training_and_one_for_validation(photographs: Path) -> None:
    found = find_photographs(photographs, SuperResolution(), 32)
    count = len(found.targets)
    for share, held_out in ((0.001, 1), (0.5, round(count / 2)), (0.999, count - 1)):
        parts = split_by_file(found, share)
        assert [len(part.targets) for part in parts] == [count - held_out, held_out]
    with pytest.raises(DataError, match="at least two photographs"):
        split_by_file(replace(found, targets=found.targets[:1]), 0.1)


def test_without_flips_no_crop_is_mirrored(photographs: Path) -> None:
    mirrored, upright = (
        crops(photographs, TrainingConfig(crop=32, flips=flips)).batch(0, range(8)).targets for flips in (True, False)
    )
    differ = (mirrored != upright).flatten(1).any(1)
    assert 0 < differ.sum() < 8
    assert torch.equal(mirrored[differ], upright[differ].flip(3))


def test_target_and_condition_of_a_pair_are_cropped_alike(photographs: Path, tmp_path: Path) -> None:
    for folder in ("A", "B"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    for name in ("casa-mila", "tea-gardens", "ocean-waves"):
        image = read_rgb(photographs / f"{name}.jpg")
        cv2.imwrite(str(tmp_path / "B" / "sub" / f"{name}.png"), image)
        if name != "ocean-waves":
            suffix = "bmp" if name == "casa-mila" else "png"
            cv2.imwrite(str(tmp_path / "A" / "sub" / f"{name}.{suffix}"), 255 - image)
    found = find_photographs(tmp_path, ImageToImage(), 32)
    assert len(found.targets) == 2
    assert list(found.skipped) == [tmp_path / "B" / "sub" / "ocean-waves.png"]
    batch = CropSampler(found, ImageToImage(), TrainingConfig(crop=32), TRAINING_STREAM).batch(0, range(8))
    assert torch.equal(batch.conditions, 255 - batch.targets)
    with pytest.raises(DataError, match="expected a folder of photographs, with the folder A next to it"):
        find_photographs(photographs, ImageToImage(), 32)


def test_small_conditions_of_pairs_are_cropped_at_the_same_place(photographs: Path, pairs: Path) -> None:
    for name in ("casa-mila", "tea-gardens"):
        small = read_rgb(photographs / f"{name}.jpg")[:70, :90]
        cv2.imwrite(str(pairs / "A" / f"{name}.png"), small)
        cv2.imwrite(str(pairs / "B" / f"{name}.png"), small.repeat(4, 0).repeat(4, 1))
    config = TrainingConfig(crop=32, crop_candidates=2)
    batch = crops(pairs, config, SuperResolution(pairs=True)).batch(0, range(8))
    assert batch.conditions.shape == (8, 3, 8, 8)
    assert torch.equal(batch.conditions.repeat_interleave(4, 2).repeat_interleave(4, 3), batch.targets)


def test_a_target_without_its_condition_is_skipped_with_the_reason(photographs: Path, pairs: Path) -> None:
    shutil.copy(photographs / "casa-mila.jpg", pairs / "B")

    def reason() -> str:
        with pytest.raises(DataError) as caught:
            find_photographs(pairs, ImageToImage(), 32)
        return str(caught.value).split("casa-mila.jpg ", 1)[1]

    assert reason() == "has no condition: the folder A contains no image file of this name"
    first, second = (pairs / "A" / f"casa-mila.{suffix}" for suffix in ("bmp", "png"))
    first.write_text("no image")
    assert reason() == f"has no condition: {first} {UNREADABLE}"
    cv2.imwrite(str(first), np.zeros((40, 50, 3), np.uint8))
    assert reason() == f"has no condition: {first} is 50×40, but must be 768×512"
    shutil.copy(first, second)
    assert reason() == f"has several conditions: {first} and {second}"
    second.unlink()
    with pytest.raises(DataError, match=f"{first} is 50×40, but must be 192×128"):
        find_photographs(pairs, SuperResolution(pairs=True), 32)


def test_the_part_that_the_perceptual_distance_sees_reaches_all_borders_alike(photographs: Path) -> None:
    """A model becomes blurred at borders that the distance seldom sees."""
    config = TrainingConfig(crop=64, feature_side=32)
    starts = crops(photographs, config).batch(0, range(200)).shift.numpy()
    assert set(np.unique(starts)) <= set(range(33))
    seen = np.zeros((64, 64))
    for down, right in starts:
        seen[down : down + 32, right : right + 32] += 1 / len(starts)
    corners = seen[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.02
    assert np.abs(seen[:32].mean() - seen[32:].mean()) < 0.1
    assert np.abs(seen[:, :32].mean() - seen[:, 32:].mean()) < 0.1


def test_a_small_cache_does_not_change_batches(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caflow_training.crop_sampler.CACHE_BYTES", 2_000_000)
    forgetful, remembering = crops(photographs), crops(photographs)
    for step in range(5):
        assert torch.equal(forgetful.batch(step, range(4)).targets, remembering.batch(step, range(4)).targets)
