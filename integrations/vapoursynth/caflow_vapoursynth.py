"""A filter of VapourSynth: a clip, enlarged by a model."""

from typing import Any

import numpy as np
import vapoursynth as vs

from caflow_runtime.backends.select import BackendName
from caflow_runtime.bundle.builtin import DEFAULT
from caflow_runtime.pipeline.pipeline import load


def enlarge(
    clip: vs.VideoNode,
    bundle: str = DEFAULT,
    temperature: float = 0.8,
    seed: int = 0,
    backend: BackendName = "auto",
    threads: int = 0,
) -> vs.VideoNode:
    """Draw one sample of each frame, all with the same noise, so that what does not move does not flicker.

    Arguments:
        clip: RGB24, of one size.
        bundle, backend, threads: as in `caflow_deploy.load`.
        temperature, seed: as in `Pipeline.best_of`.

    Returns:
        An RGB24 clip, as many times as large as the model makes images, with the properties of `clip`.

    Raises:
        vs.Error: if the clip is of another format.
        CaflowError: if the bundle cannot be opened.
    """
    if clip.format is None or clip.format.id != vs.RGB24:
        raise vs.Error("caflow: wanted a clip of RGB24: convert it by resize.Bicubic(format=vs.RGB24, matrix_in_s=…)")
    if not (clip.width and clip.height):
        raise vs.Error("caflow: wanted a clip whose frames have one size")
    pipe = load(bundle, backend, threads)
    scale = pipe.manifest.model.scale
    empty = clip.std.BlankClip(width=scale * clip.width, height=scale * clip.height, keep=True)

    def draw(n: int, f: Any) -> vs.VideoFrame:  # noqa: ARG001  (VapourSynth's names)
        image = np.stack([np.asarray(f[1][plane]) for plane in range(3)], 2)
        drawn = pipe.best_of(image, 1, temperature, seed).images[0]
        result: vs.VideoFrame = f[0].copy()
        for plane in range(3):
            np.asarray(result[plane])[:] = drawn[..., plane]
        result.props.update(f[1].props)
        return result

    return empty.std.ModifyFrame([empty, clip], draw)
