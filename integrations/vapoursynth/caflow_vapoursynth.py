"""VapourSynth filter that enlarges a clip with a model."""

from typing import Any

import numpy as np
import vapoursynth as vs

from caflow_runtime.backends.select import BackendName
from caflow_runtime.bundle.builtin import DEFAULT
from caflow_runtime.pipeline.pipeline import load


def enlarge(
    clip: vs.VideoNode,
    model: str = DEFAULT,
    temperature: float | None = None,
    seed: int = 0,
    backend: BackendName = "auto",
    threads: int = 0,
) -> vs.VideoNode:
    """Draw one sample of each frame. All frames have the same noise, so that static content does not flicker.

    Arguments:
        clip: RGB24 clip with a constant size.
        model, backend, threads: as in `caflow_deploy.load`.
        temperature, seed: as in `Pipeline.best_of`.

    Returns:
        An RGB24 clip, enlarged by the scale factor of the model. Its frames have the properties of those of `clip`.

    Raises:
        vs.Error: if the clip has another format, or frames of several sizes.
        CaflowError: if the model cannot be opened.
    """
    if clip.format is None or clip.format.id != vs.RGB24:
        raise vs.Error("caflow: the clip must be RGB24: convert it with resize.Bicubic(format=vs.RGB24, matrix_in_s=…)")
    if not (clip.width and clip.height):
        raise vs.Error("caflow: all frames of the clip must have the same size")
    pipe = load(model, backend, threads)
    scale = pipe.manifest.model.scale
    empty = clip.std.BlankClip(width=scale * clip.width, height=scale * clip.height, keep=True)

    def draw(n: int, f: Any) -> vs.VideoFrame:  # noqa: ARG001  (VapourSynth requires these names)
        image = np.stack([np.asarray(f[1][plane]) for plane in range(3)], 2)
        drawn = pipe.best_of(image, n=1, temperature=temperature, seed=seed).images[0]
        result: vs.VideoFrame = f[0].copy()
        for plane in range(3):
            np.asarray(result[plane])[:] = drawn[..., plane]
        result.props.update(f[1].props)
        return result

    return empty.std.ModifyFrame([empty, clip], draw)
