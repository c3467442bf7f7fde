"""LPIPS as a loss: the perceptual distance of two images, computed from the features of VGG16.

See Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
"""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from caflow_training.dequantization import CELLS


class FeatureError(RuntimeError):
    """Error for a missing package or missing weights of the perceptual distance."""


class PerceptualDistance(nn.Module):
    """LPIPS with VGG16. The weights are not trained."""

    def __init__(self, vgg16: Path | None = None, dtype: torch.dtype | None = None) -> None:
        """Load the network.

        Arguments:
            dtype: type in which the convolutions compute; None means the type of the images.
            vgg16: PyTorch file with the state dict of torchvision's `vgg16` or of its `features`. By default
                torchvision downloads the weights once.

        Raises:
            FeatureError: if the package `lpips` or the weights are missing.
        """
        super().__init__()
        try:
            import lpips
        except ModuleNotFoundError:
            raise FeatureError(
                "feature_weight above 0 requires the package lpips, which is not installed: "
                "pip install 'caflow-deploy[train]'"
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # lpips selects weights in a way that torchvision has deprecated
                network: Any = lpips.LPIPS(net="vgg", pnet_rand=vgg16 is not None, verbose=False)
        except OSError as error:  # no network connection
            raise FeatureError(
                f"torchvision cannot download the weights of VGG16: {error}. Pass a file with the weights as --vgg16."
            ) from None
        if vgg16 is not None:
            _load_convolutions(network.net, vgg16)
        self.network = network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
        self.dtype = dtype

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return LPIPS of each pair of image and target, (B,), for pixel values (B, 3, H, W) in 0…256."""
        scaled = [(some / (CELLS / 2) - 1).contiguous(memory_format=torch.channels_last) for some in (images, targets)]
        with torch.autocast(images.device.type, self.dtype) if self.dtype else nullcontext():
            distance: Tensor = self.network(*scaled)
        return distance.flatten().to(images.dtype)


def _load_convolutions(network: nn.Module, path: Path) -> None:
    """Load the convolutions of VGG16 from a state dict of torchvision, in the order of the layers."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        stored = [name for name in state if name.removeprefix("features.")[:1].isdigit() and name.endswith(".weight")]
        stored.sort(key=lambda name: int(name.removeprefix("features.").split(".")[0]))
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        for layer, name in zip(layers, stored, strict=True):
            layer.load_state_dict(
                {"weight": state[name], "bias": state[name.removesuffix("weight") + "bias"]}, strict=True
            )
    except Exception as error:  # files of other kinds can cause exceptions of any class
        raise FeatureError(
            f"{path} does not contain the weights of torchvision's VGG16 ({type(error).__name__}): use the file that "
            "torchvision.models.vgg16(weights='IMAGENET1K_V1') downloads."
        ) from None
