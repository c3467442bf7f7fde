"""Import of Lightning checkpoints of the public reference implementation (GBATZOLIS/CAFLOW).

The state dict of the reference numbers the layers of each flow. The kind of a layer, and the numbers of steps and
channels, are inferred from the tensors. The levels of the reference are in reverse order: list position 0 is the finest
level.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from caflow_training.bijections import AffineCoupling, AffineInjector, AffineNetwork, ReferenceSqueeze, TransitionStep
from caflow_training.config import CAFlowConfig
from caflow_training.dequantization import VariationalDequantizer
from caflow_training.image_flow import ImageFlow
from caflow_training.model import CAFlow
from caflow_training.tasks import ImageToImage

CONDITION_FLOW, TARGET_FLOW = "model.rflow.uflow.scale_blocks", "model.tflow.uflow.scale_blocks"
UNSHARED, SHARED_OWN, SHARED_CROSS = (
    "model.UnsharedConditionalFlow.scale_flows",
    "model.SharedConditionalFlow.g_I_cond_flows",
    "model.SharedConditionalFlow.g_S_cond_flows",
)

DEFAULT_SIZE = CAFlowConfig(
    levels=4,
    condition_steps=16,
    target_steps=16,
    own_steps=8,
    cross_steps=8,
    image_width=64,
    conditional_width=32,
    conditional_transition_steps=1,
    pixels="logit",
    task=ImageToImage(),
)
"""Configuration of the reference implementation with its default options: 35.2 million parameters."""

Layers = list[dict[str, Tensor]]
"""Layers of one flow, in order. Each layer is a dictionary of its tensors, with their names inside the layer."""


class UnsupportedReference(ValueError):
    """Error for a reference checkpoint that is damaged, or that uses an option beyond the published CAFLOW model."""


def is_reference(contents: Mapping[str, Any]) -> bool:
    """Return whether the contents of a file look like a checkpoint of the reference implementation."""
    state = contents.get("state_dict")
    return isinstance(state, dict) and any(
        isinstance(key, str) and key.startswith("model.rflow.uflow.") for key in state
    )


def to_model(contents: Mapping[str, Any]) -> CAFlow:
    """Convert a reference checkpoint to a model with the task image-to-image and the pixel scale of the reference.

    Raises:
        UnsupportedReference: if the checkpoint has unsupported layers or options, or is damaged.
    """
    try:
        return _to_model(contents)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, UnsupportedReference):
            raise
        raise UnsupportedReference(
            f"the checkpoint of the public CAFLOW implementation is damaged, or has an unsupported version ({error})"
        ) from None


def _to_model(contents: Mapping[str, Any]) -> CAFlow:
    state: dict[str, Tensor] = contents["state_dict"]
    options = contents["hyper_parameters"]["opts"]
    _check_options(options)
    shared = any(key.startswith(SHARED_OWN) for key in state)
    model = CAFlow(_config(state, shared, getattr(options, "vardeq_depth", None)))
    levels = model.config.levels
    _fill_image_flow(model.condition_flow, model.condition_dequantizer, state, CONDITION_FLOW)
    _fill_image_flow(model.target_flow, model.target_dequantizer, state, TARGET_FLOW)
    for j, own in enumerate(model.conditional_flow.own):
        position = levels - 1 - j
        _fill(own, _layers(state, f"{SHARED_OWN}.{position}" if shared else f"{UNSHARED}.{position}.0"))
        for block, flows in model.conditional_flow.cross_blocks(j):
            i = flows[0]
            prefix = f"{SHARED_CROSS}.{position - 1}" if shared else f"{UNSHARED}.{levels - 1 - i}.{i - j}"
            _fill(block, _layers(state, prefix))
    return model


def _check_options(options: argparse.Namespace) -> None:
    wanted = {
        "data_dim": 2,
        "data_channels": 3,
        "coupling_type": "Affine",
        "nn_type": "SimpleConvNet",
        "r_quants": 256,
    }
    for name, value in wanted.items():
        if getattr(options, name, value) != value:
            raise UnsupportedReference(
                f"option {name} of a reference checkpoint must be {value!r}; got {getattr(options, name)!r}"
            )


def _config(state: Mapping[str, Tensor], shared: bool, dequantization_steps: int | None) -> CAFlowConfig:
    levels = max(int(key.split(".")[4]) for key in state if key.startswith(CONDITION_FLOW))
    finest_condition, finest_target = _layers(state, f"{CONDITION_FLOW}.1"), _layers(state, f"{TARGET_FLOW}.1")
    own = _layers(state, f"{SHARED_OWN}.0" if shared else f"{UNSHARED}.0.0")
    cross = own if levels == 1 else _layers(state, f"{SHARED_CROSS}.0" if shared else f"{UNSHARED}.0.1")
    return CAFlowConfig(
        levels=levels,
        condition_steps=_networks(finest_condition),
        target_steps=_networks(finest_target),
        own_steps=_networks(own) // 2,
        cross_steps=_networks(cross) // 2,
        image_width=_width(finest_condition),
        conditional_width=_width(own),
        image_transition_steps=_mixings(finest_condition) - _networks(finest_condition),
        conditional_transition_steps=_mixings(own) - _networks(own) // 2,
        dependencies="shared" if shared else "unshared",
        pixels="logit",
        reference=True,
        dequantization_steps=dequantization_steps,
        task=ImageToImage(),
    )


def _layers(state: Mapping[str, Tensor], prefix: str) -> Layers:
    """Return the layers whose names begin with `prefix`, in order."""
    layers: dict[int, dict[str, Tensor]] = {}
    pattern = re.compile(re.escape(prefix) + r"\.layers\.(\d+)\.(.+)")
    for key, tensor in state.items():
        if match := pattern.fullmatch(key):
            layers.setdefault(int(match[1]), {})[match[2]] = tensor
    return [layers[number] for number in sorted(layers)]


def _networks(layers: Layers) -> int:
    return sum("subnet.nn.0.weight" in layer for layer in layers)


def _mixings(layers: Layers) -> int:
    return sum(set(layer) == {"weight"} for layer in layers)


def _width(layers: Layers) -> int:
    return next((len(layer["subnet.nn.0.weight"]) for layer in layers if "subnet.nn.0.weight" in layer), 1)


def _fill_image_flow(flow: ImageFlow, dequantizer: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    if isinstance(dequantizer, VariationalDequantizer):
        _fill(dequantizer, _layers(state, f"{prefix}.0"))
    for j, level in enumerate(flow.levels):
        _fill(level, _layers(state, f"{prefix}.{len(flow.levels) - j}"))


def _fill(flow: nn.Module, layers: Layers) -> None:
    """Copy the tensors of reference layers into the layers of `flow`, which have the same order."""
    mine = list(_tensors_of(flow))
    theirs = [tensor for layer in layers for tensor in _ordered(layer)]
    if [t.numel() for t in mine] != [t.numel() for t in theirs]:
        raise UnsupportedReference(
            f"expected ActNorm, 1×1 convolutions and affine networks with {sum(t.numel() for t in mine)} values; "
            f"got {sum(t.numel() for t in theirs)} values, or another order of layers: this variant is not supported"
        )
    with torch.no_grad():
        for mine_tensor, their_tensor in zip(mine, theirs, strict=True):
            mine_tensor.copy_(their_tensor.reshape(mine_tensor.shape))


def _tensors_of(flow: nn.Module) -> Iterator[Tensor]:
    for layer in flow.modules():
        if isinstance(layer, ReferenceSqueeze):
            yield layer.kernel
        elif isinstance(layer, TransitionStep):
            yield from (layer.norm.log_scale, layer.norm.bias, layer.conv.weight)
        elif isinstance(layer, AffineCoupling | AffineInjector):
            yield from _network_tensors(layer.network)


def _network_tensors(network: AffineNetwork) -> Iterator[Tensor]:
    for convolution in (network.first, network.middle, network.last):
        yield convolution.weight
        assert convolution.bias is not None
        yield convolution.bias


def _ordered(layer: Mapping[str, Tensor]) -> list[Tensor]:
    names = [
        "downsample_kernel",
        "scale",
        "bias",
        "weight",
        *(f"subnet.nn.{k}.{part}" for k in (0, 2, 4) for part in ("weight", "bias")),
    ]
    unknown = set(layer) - set(names)
    if unknown:
        raise UnsupportedReference(
            f"a layer contains {sorted(unknown)}, which the published CAFLOW model does not have: this variant is not "
            "supported"
        )
    return [layer[name] for name in names if name in layer]
