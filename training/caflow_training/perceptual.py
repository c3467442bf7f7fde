"""LPIPS, the distance of two images in the features of VGG16, as a loss (Zhang et al., "The Unreasonable Effectiveness
of Deep Features as a Perceptual Metric", 2018)."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from caflow_training.dequantization import CELLS


class FeatureError(RuntimeError):
    """The features of the loss cannot be had."""


class PerceptualDistance(nn.Module):
    """LPIPS with VGG16, whose weights stay as they are."""

    def __init__(self, vgg16: Path | None = None) -> None:
        """Load the network.

        Arguments:
            vgg16: a PyTorch file with the state of torchvision's `vgg16` or of its `features`; by default torchvision
                downloads it once.

        Raises:
            FeatureError: if the package or the weights are missing.
        """
        super().__init__()
        try:
            import lpips
        except ModuleNotFoundError:
            raise FeatureError(
                "feature_weight > 0 compares features by the package lpips, which is not installed: "
                "pip install 'caflow-deploy[finetune]'"
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # lpips names weights in a way that torchvision deprecates
                network: Any = lpips.LPIPS(net="vgg", pnet_rand=vgg16 is not None, verbose=False)
        except OSError as error:  # no network
            raise FeatureError(
                f"torchvision cannot download the weights of VGG16: {error}. Give a file that has them with --vgg16."
            ) from None
        if vgg16 is not None:
            _load_convolutions(network.net, vgg16)
        self.network = network.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """LPIPS of pairs (B, 3, H, W) of pixel values 0…256: (B,)."""
        distance: Tensor = self.network(images / (CELLS / 2) - 1, targets / (CELLS / 2) - 1)
        return distance.flatten()


def _load_convolutions(network: nn.Module, path: Path) -> None:
    """Take the convolutions of VGG16 from a state of torchvision's, in the order of their layers."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        stored = [name for name in state if name.removeprefix("features.")[:1].isdigit() and name.endswith(".weight")]
        stored.sort(key=lambda name: int(name.removeprefix("features.").split(".")[0]))
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        for layer, name in zip(layers, stored, strict=True):
            layer.load_state_dict(
                {"weight": state[name], "bias": state[name.removesuffix("weight") + "bias"]}, strict=True
            )
    except Exception as error:  # of any class: a file of any kind
        raise FeatureError(
            f"{path}: not the weights of torchvision's VGG16 ({type(error).__name__}): give the file that "
            "torchvision.models.vgg16(weights='IMAGENET1K_V1') downloads."
        ) from None
