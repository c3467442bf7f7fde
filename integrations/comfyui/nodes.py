"""Nodes for ComfyUI. Images in ComfyUI are float32 tensors of shape (B, H, W, 3) with values between 0 and 1."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import caflow_deploy as caflow
from caflow_runtime.bundle.builtin import DEFAULT

OWN_TEMPERATURE = -1.0
"""Value that stands for the temperature that the model is best used with."""
MODEL = (
    "STRING",
    {"default": DEFAULT, "tooltip": "Model to use: a folder that caflow-export wrote, or x4-photo, or x4-real"},
)


class Enlarge:
    """Node that draws samples of each image: it enlarges, colorizes or inpaints, as the model does."""

    CATEGORY = "caflow"
    FUNCTION = "enlarge"
    RETURN_TYPES = ("IMAGE", "IMAGE", "FLOAT")
    RETURN_NAMES = ("best", "samples", "bits_per_dim")
    OUTPUT_IS_LIST = (False, False, True)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI requires this name)
        """Return the inputs that ComfyUI shows."""
        return {
            "required": {
                "image": ("IMAGE",),
                "model": MODEL,
                "n": (
                    "INT",
                    {"default": 0, "min": 0, "max": 1000, "tooltip": "0: 10 of small images, fewer of large ones"},
                ),
                "temperature": (
                    "FLOAT",
                    {"default": OWN_TEMPERATURE, "min": OWN_TEMPERATURE, "max": 2.0, "step": 0.05},
                ),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32 - 1}),
                "rank": (["likelihood", "consistency", "typical"],),
            },
            "optional": {"mask": ("MASK", {"tooltip": "For models that fill holes: what is to be replaced"})},
        }

    def enlarge(
        self, image: Tensor, model: str, mask: Tensor | None = None, **drawing: Any
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Draw samples of a batch of images.

        Arguments:
            mask: (B, H, W) or (1, H, W), 0.5 or more where a model that fills holes replaces the image.
            drawing: fields of `caflow.DrawOptions`.

        Returns:
            The best sample of each image; all samples, image after image, the best of each image first; and the
            bits/dim of all samples, in the same order.

        Raises:
            CaflowError: if the model cannot be opened, or an argument is wrong. ComfyUI shows its message.
        """
        own = {name: None for name, value in (("n", 0), ("temperature", OWN_TEMPERATURE)) if drawing[name] == value}
        options = caflow.DrawOptions(**drawing | own)
        given = to_integers(image)
        holes = [None] * len(given) if mask is None else list(to_holes(mask, given.shape))
        inputs = [{} if hole is None else {"mask": hole} for hole in holes]
        kept = caflow.OutputOptions(keep_all=True)
        drawn = [
            caflow.draw(one, model=model, inputs=of_one, options=options, output=kept)
            for one, of_one in zip(given, inputs, strict=True)
        ]
        images = np.stack([[result.pixels(k) for k in range(len(result.pictures))] for result in drawn])
        every = [result.drawn for result in drawn if result.drawn is not None]
        bits = [float(value) for of_image in every for value in of_image.bits_per_dim.reshape(-1)]
        return to_tensor(images[:, 0]), to_tensor(images.reshape(-1, *images.shape[2:])), bits


class Score:
    """Node that computes how likely each image is, given its condition."""

    CATEGORY = "caflow"
    FUNCTION = "score"
    RETURN_TYPES = ("FLOAT", "FLOAT")
    RETURN_NAMES = ("bits_per_dim", "image_typicality")
    OUTPUT_IS_LIST = (True, True)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI requires this name)
        """Return the inputs that ComfyUI shows."""
        return {"required": {"target": ("IMAGE",), "condition": ("IMAGE",), "model": MODEL}}

    def score(self, target: Tensor, condition: Tensor, model: str) -> tuple[list[float], list[float]]:
        """Return the bits/dim and the image typicality of each target. The typicality is NaN if it cannot be judged.

        Raises:
            CaflowError: if the model cannot be opened, or an argument is wrong. ComfyUI shows its message.
        """
        pairs = zip(to_integers(target), to_integers(condition), strict=True)
        scores = [caflow.score(*pair, model=model) for pair in pairs]
        known = [np.nan if one.image_typicality is None else float(one.image_typicality.value[0]) for one in scores]
        return [float(one.bits_per_dim[0]) for one in scores], known


def to_integers(image: Tensor) -> NDArray[np.uint8]:
    """Convert a (B, H, W, C) tensor with values between 0 and 1 to uint8."""
    integers: NDArray[np.uint8] = (255 * image).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return integers


def to_holes(mask: Tensor, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return holes, (B, H, W) bool, of a mask of any size, as that of an image without transparency has.

    Arguments:
        mask: (B, h, w) or (1, h, w), values between 0 and 1.
        shape: shape of the images, (B, H, W, C).
    """
    resized = torch.nn.functional.interpolate(mask[:, None].float(), shape[1:3], mode="bilinear")[:, 0]
    holes: NDArray[np.bool_] = (resized >= 0.5).expand(shape[0], -1, -1).cpu().numpy()
    return holes


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Convert a (B, H, W, C) uint8 array to a float32 tensor with values between 0 and 1."""
    return torch.from_numpy(images.astype(np.float32) / 255)
