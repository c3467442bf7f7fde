"""Streams of frames: order, flicker, scenes, results equal to those of single images, and frames kept in memory."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import photograph

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.tile_merging import BatchItem
from caflow_runtime.errors import InputError
from caflow_runtime.flow.noise import DriftingNoise, NoiseWindow
from caflow_runtime.ood.consistency import psnr
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.scenes import SceneCuts
from caflow_runtime.pipeline.stream import FrameNoise, Stream, StreamSettings

CHANNELS = [3, 6]
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def scenes(photographs: Path) -> list[Picture]:
    """Five frames of one scene, which moves by one pixel per frame, then three frames of another scene."""
    first, second = (photograph(photographs, k, 16, 24) for k in (0, 5))
    moved = [np.ascontiguousarray(np.roll(first, k, 1)) for k in range(5)]
    return moved + [np.ascontiguousarray(255 - np.roll(second, k, 1)) for k in range(3)]


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_each_frame_equals_the_result_of_its_image_alone(pipe: Pipeline, scenes: list[Picture], batch: int) -> None:
    given: Any = scenes if batch > 1 else np.stack(scenes).data
    frames = list(pipe.stream(given, n=3, seed=5, batch=batch))
    assert [frame.number for frame in frames] == list(range(8))
    assert [frame.starts_scene for frame in frames] == [True, *[False] * 4, True, *[False] * 2]
    for scene, numbers in enumerate((range(5), range(5, 8))):
        best = pipe.best_of(scenes[numbers[0]], n=3, seed=5, frame=scene)
        for k in numbers:
            drawn = pipe.sample(scenes[k], n=3, seed=5, frame=scene)
            (place,) = np.flatnonzero(drawn.sample[0] == best.sample[0])
            assert frames[k].sample == best.sample[0]
            assert (frames[k].image != drawn.images[0][place]).mean() <= 1e-3
            np.testing.assert_allclose(frames[k].log_likelihood, drawn.log_likelihood[0, place], rtol=1e-6)
            np.testing.assert_allclose(frames[k].bits_per_dim, drawn.bits_per_dim[0, place], rtol=1e-6)


def test_a_still_scene_flickers_more_the_faster_the_noise_changes(pipe: Pipeline, scenes: list[Picture]) -> None:
    still = [scenes[0]] * 6

    def flicker(noise: object) -> float:
        pixels = [frame.pixels for frame in pipe.stream(still, noise=noise)]  # type: ignore[arg-type]
        return float(np.mean([np.abs(a - b).mean() for a, b in pairwise(pixels)]))

    fixed, slow, fast, fresh = (flicker(noise) for noise in ("fixed", 0.95, 0.5, "fresh"))
    assert fixed == 0.0
    assert 0.0 < slow < fast < fresh


def test_drifting_noise_is_normal_and_has_the_requested_correlation() -> None:
    noise = DriftingNoise(0.8)
    drawn = np.stack([noise(CHANNELS, 0, NoiseWindow(0, 0, 8, 8, (0, 1, 2, 3)), 1, frame) for frame in range(60)])
    assert drawn.shape == (60, 4, 9, 8, 8)
    np.testing.assert_allclose(drawn.std((1, 2, 3, 4)), 1.0, atol=0.06)
    steps = [np.corrcoef(drawn[k].ravel(), drawn[k + 1].ravel())[0, 1] for k in range(59)]
    np.testing.assert_allclose(steps, 0.8, atol=0.06)
    np.testing.assert_array_equal(noise(CHANNELS, 0, NoiseWindow(0, 0, 8, 8, (0, 1, 2, 3)), 1, 59), drawn[-1])
    noise.restart(0)
    np.testing.assert_array_equal(noise(CHANNELS, 0, NoiseWindow(0, 0, 8, 8, (0, 1, 2, 3)), 1, 0), drawn[0])


def test_scenes_are_cut_where_colours_change_at_once(photographs: Path) -> None:
    """A slow pan and a slow fade are not cuts. A change to another photograph is a cut."""
    wide = photograph(photographs, 0, 200, 400)
    pan = [np.ascontiguousarray(wide[:, k : k + 200]) for k in range(0, 200, 10)]
    fade = [np.rint(pan[-1] * (1 - k / 20)).astype(np.uint8) for k in range(10)]
    others = [photograph(photographs, k, 200, 200) for k in (3, 5, 8)]
    is_cut = SceneCuts()
    found = [is_cut(frame) for frame in (*pan, *fade, *others)]
    assert found == [True, *[False] * (len(pan) + len(fade) - 1), *[True] * len(others)]


def test_a_frame_without_a_finite_sample_is_the_input_enlarged(
    pipe: Pipeline, scenes: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scene continues. If the scene's sample is not finite for a frame, this frame alone gets another one."""
    stream = Stream(pipe, StreamSettings(draw=DrawOptions(3, seed=5), batch=4))
    plain = list(stream(scenes[:5]))
    value = stream.value
    bad = {2: {0, 1, 2}, 3: {plain[0].sample}}  # all of frame 2, and the scene's sample of frame 3
    numbers = {frame.tobytes(): k for k, frame in enumerate(scenes)}

    def spoilt(row: BatchItem, frame: Picture) -> float:
        return -np.inf if row.sample in bad.get(numbers[frame.tobytes()], set()) else value(row, frame)

    stream = Stream(pipe, StreamSettings(draw=DrawOptions(3, seed=5), batch=4))
    monkeypatch.setattr(stream, "value", spoilt)
    frames = list(stream(scenes[:5]))
    assert [frame.rejected for frame in frames] == [False, False, True, False, False]
    assert [frame.starts_scene for frame in frames] == [True, *[False] * 4]
    assert frames[2].image.shape == plain[2].image.shape
    assert psnr(frames[2].image[2::4, 2::4], scenes[2]) > 20
    assert np.isnan(frames[2].bits_per_dim)
    assert frames[3].sample != plain[0].sample
    assert frames[4].sample == plain[0].sample
    for k in (0, 1, 4):
        np.testing.assert_array_equal(frames[k].image, plain[k].image)


@pytest.mark.parametrize("number", [1, 4, 5, 7])
@pytest.mark.parametrize(("n", "noise"), [(1, "fixed"), (3, "fixed"), (3, "fresh"), (3, 0.8)])
def test_a_stream_that_begins_later_yields_the_same_frames(
    pipe: Pipeline, scenes: list[Picture], n: int, noise: FrameNoise, number: int
) -> None:
    seed = 8  # with this seed, the first sample is not the best
    whole = list(pipe.stream(scenes, n=n, seed=seed, noise=noise))
    assert n == 1 or whole[0].sample > 0
    scene, start = (0, 0) if number < 5 else (1, 5)
    stream = Stream(pipe, StreamSettings(draw=DrawOptions(n, seed=seed), noise=noise))
    stream.skip_to(number, scene, start, scenes[start] if n > 1 else None)
    for frame, same in zip(stream(scenes[number:]), whole[number:], strict=True):
        assert (frame.number, frame.sample, frame.starts_scene) == (same.number, same.sample, same.starts_scene)
        np.testing.assert_array_equal(frame.pixels, same.pixels)


@pytest.mark.parametrize("begin", [1, 2, 4])
def test_frames_of_a_scene_without_a_sample_do_not_depend_on_where_a_run_begins(
    pipe: Pipeline, scenes: list[Picture], monkeypatch: pytest.MonkeyPatch, begin: int
) -> None:
    """If no sample of a scene's first frame is finite, each later frame chooses one of its own."""
    settings, first = StreamSettings(draw=DrawOptions(3, seed=5, rank="consistency")), scenes[0].tobytes()

    def stream() -> Stream:
        new = Stream(pipe, settings)
        value = new.value
        monkeypatch.setattr(new, "value", lambda row, frame: -np.inf if frame.tobytes() == first else value(row, frame))
        return new

    whole, later = list(stream()(scenes[:5])), stream()
    later.skip_to(begin, 0, 0, scenes[0])
    assert [frame.rejected for frame in whole] == [True, *[False] * 4]
    for frame, same in zip(later(scenes[begin:5]), whole[begin:], strict=True):
        assert frame.sample == same.sample
        np.testing.assert_array_equal(frame.pixels, same.pixels)


def test_a_frame_of_another_size_starts_a_scene(pipe: Pipeline, scenes: list[Picture]) -> None:
    sizes = [scenes[0], scenes[1], np.ascontiguousarray(scenes[2][:8])]
    frames = list(pipe.stream(sizes, batch=4))
    assert [frame.image.shape for frame in frames] == [(64, 96, 3), (64, 96, 3), (32, 96, 3)]
    assert [frame.starts_scene for frame in frames] == [True, False, True]


def test_wrong_arguments_of_a_stream_are_refused(pipe: Pipeline, scenes: list[Picture]) -> None:
    wrong: Any
    for wrong in ({"noise": 1.0}, {"noise": "blue"}, {"batch": 0}):
        with pytest.raises(InputError, match=r"^(noise|batch) must be"):
            pipe.stream(scenes, **wrong)
    with pytest.raises(InputError, match=r"frames\[1\]: expected"):
        list(pipe.stream([scenes[0], scenes[0].astype(np.float32)]))
