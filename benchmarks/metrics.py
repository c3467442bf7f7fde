"""How good an image is: the crops of the evaluation, and PSNR, SSIM, LPIPS, DISTS and LR-PSNR on them.

Crops and protocol are those of the peers' figures: small images by Pillow's bicubic filter, PSNR of whole RGB, SSIM of
luma. LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018) with AlexNet:
the heads are those of the `lpips` package, the convolutions those that `models/photographs.py metrics` fetches.
"""

import bz2
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import torch
from dists import Dists
from numpy.typing import NDArray
from PIL import Image
from pretrained import convolutions
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
    dists: float
    lr_psnr: float
    """dB: of the result, reduced again, against the condition."""
    lattice: float
    """As `lattice` says."""


def crops(folder: Path, side: int, scale: int = SCALE) -> list[Crop]:
    """The centre 256×256 of every photograph: whole (side 256), or halved and cut into four (side 64)."""
    found = []
    for path in sorted(folder.iterdir()):
        picture = read(path)
        left, top = (picture.width - WHOLE) // 2, (picture.height - WHOLE) // 2
        centre = picture.crop((left, top, left + WHOLE, top + WHOLE))
        if side == WHOLE:
            found.append(crop(path.stem, centre, scale))
            continue
        half = centre.resize((WHOLE // 2, WHOLE // 2), Image.Resampling.BICUBIC)
        for y in range(0, half.height, side):
            for x in range(0, half.width, side):
                found.append(crop(f"{path.stem} {y},{x}", half.crop((x, y, x + side, y + side)), scale))
    return found


def crop(name: str, target: Image.Image, scale: int) -> Crop:
    """A target with its condition."""
    return Crop(name, np.asarray(target), reduce(np.asarray(target), scale))


def reduce(picture: Picture, scale: int = SCALE) -> Picture:
    """1 / `scale` of the sides, by Pillow's bicubic filter."""
    return resize(picture, (picture.shape[0] // scale, picture.shape[1] // scale))


def resize(picture: Picture, size: tuple[int, int], method: Image.Resampling = Image.Resampling.BICUBIC) -> Picture:
    """A picture at another height and width, by one of Pillow's filters."""
    return np.asarray(Image.fromarray(picture).resize(size[::-1], method))


def read(path: Path) -> Image.Image:
    """A photograph as RGB."""
    if path.suffix == ".dat":
        return Image.fromarray(np.frombuffer(bz2.decompress(path.read_bytes()), np.uint8).reshape(FACE_SHAPE))
    return Image.open(path).convert("RGB")


class Judge:
    """Scores results. Holds the networks of LPIPS and DISTS."""

    def __init__(self, folder: Path) -> None:
        """`folder`: what `models/photographs.py metrics` filled."""
        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        layers = [layer for layer in self.network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
        with torch.no_grad():
            for layer, (kernel, bias) in zip(layers, convolutions(folder / "alexnet.ckpt", "AlexNet"), strict=True):
                layer.weight.copy_(kernel)
                assert layer.bias is not None
                layer.bias.copy_(bias)
        self.spatial = copy.copy(self.network)
        self.spatial.spatial = True
        self._dists = Dists.load(folder)
        self._targets: dict[bytes, list[torch.Tensor]] = {}

    @torch.no_grad()
    def lpips(self, results: list[Picture], targets: list[Picture]) -> list[float]:
        """Of results of one size."""
        distances: list[float] = self.network(*(2 * tensor(images) - 1 for images in (results, targets)))
        return [float(distance) for distance in distances]

    @torch.no_grad()
    def lpips_maps(self, results: list[Picture], targets: list[Picture]) -> NDArray[np.float32]:
        """(N, H, W): LPIPS of each pixel, of results of one size."""
        maps = self.spatial(*(2 * tensor(images) - 1 for images in (results, targets)))
        return np.asarray(maps[:, 0])

    def dists(self, result: Picture, target: Picture) -> float:
        """DISTS. The features of each target are kept, since many results are held against one target."""
        key = target.tobytes()
        if key not in self._targets:
            self._targets[key] = self._dists.features(tensor([target]))
        return float(self._dists.distances(self._dists.features(tensor([result])), self._targets[key]))

    def scores(self, results: list[Picture], given: list[Crop]) -> list[Scores]:
        """Of results of one size."""
        distances = self.lpips(results, [crop.target for crop in given])
        return [
            Scores(
                psnr(result, crop.target),
                ssim(result @ LUMA, crop.target @ LUMA),
                distance,
                self.dists(result, crop.target),
                psnr(resize(result, crop.condition.shape[:2]), crop.condition),
                lattice(result),
            )
            for result, crop, distance in zip(results, given, distances, strict=True)
        ]


def lattice(picture: Picture) -> float:
    """Standard deviation, in grey levels, of what repeats every 2 or 4 pixels all over a picture, (H, W, 3) uint8.

    Networks that work on squeezed images, and losses that reduce images, may leave such patterns, which people see and
    LPIPS does not mind. A true picture has some by chance, the less the larger it is: compare with its target.
    """
    grey = picture @ LUMA
    rows, columns = (side // 4 for side in grey.shape)
    phases = grey[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4).mean((0, 2))
    return float(phases.std())


def tensor(images: list[Picture]) -> torch.Tensor:
    """(N, 3, H, W) float32 in [0, 1], of images of one size."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def ssim(a: Any, b: Any) -> float:
    """Of luma in studio range."""
    return float(structural_similarity(a, b, data_range=219))  # type: ignore[no-untyped-call]


def psnr(a: Picture, b: Picture) -> float:
    """dB of values in 0…255."""
    return float(10 * np.log10(255**2 / max(np.square(a.astype(np.float64) - b).mean(), 1e-10)))


def mean(scores: list[Scores]) -> Scores:
    """Of each score over all results."""
    return Scores(*(float(np.mean([getattr(one, name) for one in scores])) for name in Scores.__dataclass_fields__))
