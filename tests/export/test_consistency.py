"""Consistency: degrading a result as in training, and changing a result so that it matches its condition."""

from pathlib import Path
from typing import ClassVar, Literal

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tiny import TINY, photograph

from caflow_export.graphs import Degrade
from caflow_export.manifest_entries import graph_entry
from caflow_export.to_onnx import degrade_graph, trace
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError
from caflow_runtime.ood.consistency import EXACT, Consistency, luma, psnr
from caflow_training.completion_tasks import MaskedInpainting
from caflow_training.tasks import Colorization, Inpainting, Sketch, SuperResolution, Task

REPEATABLE: list[Task] = [
    SuperResolution(scale=4),
    SuperResolution(scale=2, down_filter="bilinear"),
    Colorization(),
    Inpainting(),
    MaskedInpainting(smooth_share=1.0),
]


def consistency_of(task: Task, folder: Path) -> Consistency:
    """Return the consistency of a bundle with the task's graph `degrade`, exported to ONNX."""
    graph = degrade_graph(Degrade(task))
    proto = trace(graph)
    onnx.save(proto, folder / "degrade.onnx")
    known = read_manifest(TINY)
    manifest = msgspec.structs.replace(
        known,
        model=msgspec.structs.replace(
            known.model,
            scale=task.scale,
            condition_color=task.condition_color,
            condition_channels=task.condition_channels,
        ),
        graphs=[graph_entry(graph, proto, File("degrade.onnx", 0, ""), task.scale)],
    )
    return Consistency({"degrade": OnnxRuntimeCpu().load(folder / "degrade.onnx")}, manifest)


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory: pytest.TempPathFactory) -> Consistency:
    return consistency_of(SuperResolution(scale=4), tmp_path_factory.mktemp("degrade"))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("down_filter", ["bicubic", "bilinear"])
def test_reducing_equals_pytorchs_antialiased_interpolation(photographs: Path, scale: int, down_filter: str) -> None:
    task = SuperResolution(scale=scale, down_filter=down_filter)  # type: ignore[arg-type]
    planes = torch.from_numpy(photograph(photographs, 0, 64, 96)).permute(2, 0, 1)[None].double()
    expected = F.interpolate(planes, (64 // scale, 96 // scale), mode=down_filter, antialias=True)
    torch.testing.assert_close(task.repeat_degradation(planes, planes), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", REPEATABLE, ids=repr)
def test_the_truth_is_consistent_with_its_condition(task: Task, photographs: Path, tmp_path: Path) -> None:
    consistency, target = consistency_of(task, tmp_path), photograph(photographs, 1, 64, 96)
    condition: NDArray[np.uint8] = task.degrade(target, np.random.default_rng(0))  # type: ignore[union-attr]
    # PyTorch rounds intermediate values when it reduces uint8, so that some values differ by one grey level.
    assert consistency.psnr(target, condition) >= (50 if task.scale > 1 else EXACT)
    assert consistency.psnr(np.roll(target, 5, 0), condition) < 30


def test_colours_that_a_model_of_grey_images_does_not_see_are_not_compared(photographs: Path, tmp_path: Path) -> None:
    class GreySuperResolution(SuperResolution):
        condition_color: ClassVar[Literal["rgb", "gray"]] = "gray"

    consistency, image = consistency_of(GreySuperResolution(), tmp_path), photograph(photographs, 1, 64, 96)
    small = SuperResolution().degrade(luma(image), np.random.default_rng(0))
    tinted = np.clip(small + np.array([114, 0, -299]) / 10, 0, 255).astype(np.uint8)  # of nearly the same luma
    assert consistency.psnr(luma(image), tinted) > 40
    changed = consistency.projected(luma(image).astype(np.float32), tinted)
    assert np.ptp(changed, 2).max() < 1  # it stays grey


def test_a_projected_image_reduces_to_its_condition(enlarging: Consistency, photographs: Path) -> None:
    target = photograph(photographs, 2, 96, 64)
    condition = enlarging.degraded(target)
    noisy = (target + np.random.default_rng(1).normal(0.5, 20, target.shape)).astype(np.float32)
    assert enlarging.psnr(np.clip(noisy, 0, 255).astype(np.uint8), condition) < 40
    projected = np.rint(enlarging.projected(noisy, condition)).astype(np.uint8)
    assert enlarging.psnr(projected, condition) > 50
    assert psnr(projected, target) > psnr(np.clip(noisy - 0.5, 0, 255), target)


def test_black_text_on_white_can_be_made_consistent(enlarging: Consistency) -> None:
    """Black text on white is clipped at both ends of the range, where the first steps change little."""
    target = np.full((96, 192, 3), 255, np.uint8)
    cv2.putText(target, "Text", (5, 80), cv2.FONT_HERSHEY_SIMPLEX, 2.5, (0, 0, 0), 6, cv2.LINE_AA)
    condition = enlarging.degraded(target)
    blurred = cv2.GaussianBlur(target, (0, 0), 3).astype(np.float32) + np.float32(0.5)
    projected = np.rint(enlarging.projected(blurred, condition)).astype(np.uint8)
    assert enlarging.psnr(projected, condition) > 50


def test_a_degradation_that_cannot_be_repeated_is_refused(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert Sketch().repeat_degradation(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)) is None
    without = Consistency({}, msgspec.structs.replace(read_manifest(TINY), graphs=[]))
    with pytest.raises(InputError, match=r"this model, of the task 'super-resolution', has no graph 'degrade'"):
        without.psnr(image, image)
    for consistency in (without, consistency_of(MaskedInpainting(), tmp_path)):
        with pytest.raises(InputError, match=r"does not define how to make a condition .* calibrate with pairs"):
            consistency.degraded(image)
