"""Crops of the evaluation, and the metrics of their results: PSNR, LPIPS, DISTS, LR-PSNR and lattice.

The protocol is that of the peers' published figures: conditions are made by Pillow's bicubic filter, PSNR is of whole
RGB images. LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", 2018) uses AlexNet. The weights of its last layers are those of the `lpips` package. Its convolutions are those
that `models/photographs.py metrics` downloads.
"""

import bz2
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import lpips
import numpy as np
import torch
from dists import Dists
from numpy.typing import NDArray
from PIL import Image
from pretrained import convolutions
from scipy.stats import t

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

FURTHER = ("last", "unseen")
"""Kinds of photographs, besides `test`, that no training uses."""
SCALE = 4
WHOLE = 256
MAX_QUANTIZATION, MIN_DEVIATION = 20, 10
FACE_SHAPE = (768, 1024, 3)
"""Shape of the raccoon photograph of scipy, which is stored without a header."""
LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""Weights of R, G and B in luma by BT.601, in studio range, without its offset."""


@dataclass(frozen=True)
class Crop:
    """A target and its condition, the small image that is made from it."""

    name: str
    target: Picture
    condition: Picture


@dataclass(frozen=True)
class Scores:
    """Metrics of one result, or their means."""

    psnr: float
    """PSNR of RGB, in dB."""
    lpips: float
    dists: float
    lr_psnr: float
    """PSNR between the result, reduced again, and the condition, in dB."""
    lattice: float
    """Result of the function `lattice`, in grey levels."""


def folder_of(kind: str) -> Path:
    """Return the folder of a kind of files that `models/photographs.py` downloads.

    Raises:
        click.ClickException: if they were not downloaded.
    """
    folder = Path("build/photographs") / kind
    if not folder.is_dir():
        raise click.ClickException(f"{folder} does not exist: first run python models/photographs.py {kind} {folder}")
    return folder


def held_out_crops(scale: int = SCALE) -> list[Crop]:
    """Return the centre 256×256 of all photographs that no training uses, with conditions, those of `test` first."""
    further = (crop(name, centre(half), scale) for name, half in further_photographs())
    return [*crops(folder_of("test"), WHOLE, scale), *further]


def crops(folder: Path, side: int, scale: int = SCALE) -> list[Crop]:
    """Return the centre 256×256 of every photograph in a folder with its condition.

    The centre is one crop if `side` is 256. Otherwise it is halved to 128×128 and cut into crops of side×side: four
    for 64.
    """
    found = []
    for path in sorted(folder.iterdir()):
        whole = centre(read(path))
        if side == WHOLE:
            found.append(crop(path.stem, whole, scale))
            continue
        half = whole.resize((WHOLE // 2, WHOLE // 2), Image.Resampling.BICUBIC)
        for y in range(0, half.height, side):
            for x in range(0, half.width, side):
                found.append(crop(f"{path.stem} {y},{x}", half.crop((x, y, x + side, y + side)), scale))
    return found


def further_photographs() -> Iterator[tuple[str, Image.Image]]:
    """Yield name and picture of every photograph of `FURTHER` that is clean when it is halved, at half its size.

    These have both sides of at least 512 pixels, and are stored without loss or as JPEG with a mean luminance
    quantization of at most 20. Those whose centre is nearly empty are left out.
    """
    for path in (path for kind in FURTHER for path in sorted(folder_of(kind).iterdir())):
        picture = Image.open(path)
        tables = getattr(picture, "quantization", None)
        if min(picture.size) < 2 * WHOLE or (tables and np.mean(tables[0]) > MAX_QUANTIZATION):
            continue
        half = picture.convert("RGB").resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
        if np.asarray(centre(half)).std() >= MIN_DEVIATION:
            yield path.stem, half


def centre(picture: Image.Image) -> Image.Image:
    """Return the 256×256 pixels in the middle of a picture."""
    left, top = (picture.width - WHOLE) // 2, (picture.height - WHOLE) // 2
    return picture.crop((left, top, left + WHOLE, top + WHOLE))


def crop(name: str, target: Image.Image, scale: int) -> Crop:
    """Return a target with its condition."""
    return Crop(name, np.asarray(target), reduce(np.asarray(target), scale))


def reduce(picture: Picture, scale: int = SCALE) -> Picture:
    """Return the picture with its width and height divided by `scale`, by Pillow's bicubic filter."""
    return resize(picture, (picture.shape[0] // scale, picture.shape[1] // scale))


def resize(picture: Picture, size: tuple[int, int], method: Image.Resampling = Image.Resampling.BICUBIC) -> Picture:
    """Resize a picture to `size`, (height, width), by one of Pillow's filters."""
    return np.asarray(Image.fromarray(picture).resize(size[::-1], method))


def read(path: Path) -> Image.Image:
    """Read a photograph as RGB. Files with the suffix `.dat` contain the raccoon of scipy."""
    if path.suffix == ".dat":
        return Image.fromarray(np.frombuffer(bz2.decompress(path.read_bytes()), np.uint8).reshape(FACE_SHAPE))
    return Image.open(path).convert("RGB")


class Judge:
    """Judge of results by all metrics. It holds the networks of LPIPS and DISTS."""

    def __init__(self) -> None:
        folder = folder_of("metrics")
        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        layers = [layer for layer in self.network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
        with torch.no_grad():
            for layer, (kernel, bias) in zip(layers, convolutions(folder / "alexnet.ckpt", "AlexNet"), strict=True):
                layer.weight.copy_(kernel)
                assert layer.bias is not None
                layer.bias.copy_(bias)
        self.dists_network = Dists.load(folder)
        self._targets: dict[bytes, list[torch.Tensor]] = {}

    @torch.no_grad()
    def lpips(self, results: list[Picture], targets: list[Picture]) -> list[float]:
        """Return LPIPS of each result, for results of equal size."""
        return [float(distance) for distance in self.network(*_signed(results, targets))]

    def dists(self, result: Picture, target: Picture) -> float:
        """Return DISTS of a result. The features of targets are cached, since many results share a target."""
        key = target.tobytes()
        if key not in self._targets:
            self._targets[key] = self.dists_network.features(tensor([target]))
        found = self.dists_network.features(tensor([result]))
        return float(self.dists_network.distances(found, self._targets[key]))

    def scores(self, results: list[Picture], given: list[Crop]) -> list[Scores]:
        """Return the metrics of each result, for results of equal size."""
        targets = [crop.target for crop in given]
        return [
            Scores(
                psnr(result, crop.target),
                lpips,
                self.dists(result, crop.target),
                psnr(resize(result, crop.condition.shape[:2]), crop.condition),
                lattice(result),
            )
            for result, crop, lpips in zip(results, given, self.lpips(results, targets), strict=True)
        ]


def lattice(picture: Picture) -> float:
    """Return the strength of the pattern that repeats every 2 or 4 pixels all over a picture, (H, W, 3) uint8.

    The strength is the pattern's standard deviation, in grey levels. Networks that work on squeezed images, and losses
    that reduce images, may cause such patterns. People see them, but LPIPS does not. A true picture has some by chance,
    a large one less than a small one, so compare a result with its target.
    """
    grey = picture @ LUMA
    rows, columns = (side // 4 for side in grey.shape)
    phases = grey[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4).mean((0, 2))
    return float(phases.std())


def _signed(*images: list[Picture]) -> list[torch.Tensor]:
    """Return lists of images as the networks of LPIPS read them, with values in [−1, 1]."""
    return [2 * tensor(one) - 1 for one in images]


def tensor(images: list[Picture]) -> torch.Tensor:
    """Return images of equal size as (N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return PSNR in dB for values in 0…255, of any shape; at most about 148 for equal pictures."""
    return float(10 * np.log10(255**2 / max(np.square(a.astype(np.float64) - b).mean(), 1e-10)))


def ab(picture: Picture) -> NDArray[np.float32]:
    """Return a and b in CIELAB, (H, W, 2) float32."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[..., 1:], np.float32)


def colorfulness(picture: Picture) -> float:
    """Return the colourfulness of a picture, in grey levels. Grey has 0.

    It is that of Hasler and Süsstrunk, "Measuring Colourfulness in Natural Images", 2003.
    """
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    return float(np.linalg.norm(opponents.std((1, 2))) + 0.3 * np.linalg.norm(opponents.mean((1, 2))))


def mean(scores: list[Scores]) -> Scores:
    """Return the mean of each metric over all results."""
    return Scores(*(float(np.mean([getattr(one, name) for one in scores])) for name in Scores.__dataclass_fields__))


def mean_difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the paired differences, and the half width of its 95 % interval."""
    found = np.subtract(values, others)
    half = t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(half)


def relative_difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the result of `mean_difference` in per cent of the mean of the others."""
    mean, half = mean_difference(values, others)
    return 100 * mean / float(np.mean(others)), 100 * half / float(np.mean(others))
