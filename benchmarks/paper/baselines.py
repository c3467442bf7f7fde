"""Baselines: one flow of the target whose layers read the condition. The condition itself has no flow.

* Conditional Glow (Lu and Huang, "Structured Output Learning with Conditional Generative Flows", 2020): couplings read
  the condition, and so does the prior of each level. In theirs, ActNorm and 1×1 convolutions also read the condition,
  and the prior of a level reads the half of the channels that the next level gets.
* cINN (Ardizzone et al., "Guided Image Generation with Conditional Invertible Neural Networks", 2019): couplings read
  the features of a feed-forward network, which is trained together with the flow. The prior is standard normal.

They take the places of the flows of CAFLOW in the model, and so share its bijections, its objective and its evaluation.
"""

from contextlib import closing
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.bijections import (
    AffineCoupling,
    AffineInjector,
    Bijection,
    Chain,
    Squeeze,
    TransitionStep,
    join,
    split,
)
from caflow_training.conditional_flow import BlockSettings, Latents
from caflow_training.config import CAFlowConfig
from caflow_training.crop_sampler import CropSampler
from caflow_training.dequantization import MIDPOINT
from caflow_training.image_flow import latent_channels
from caflow_training.mean_network import ResidualBlock
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.objective import AveragedWeights, Objective, initialize_from, learning_rate
from caflow_training.processes import Processes
from caflow_training.recipe import Recipe
from caflow_training.training_data import find_training_data

Kind = Literal["conditional Glow", "cINN"]


class SqueezedCondition(nn.Module):
    """What the layers of a conditional Glow read: the condition, squeezed to the resolution of each level."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.channels = [channels * 4 ** (levels - j) for j in range(levels)]
        """Number of channels at each level, coarsest first."""

    def forward(self, condition: Tensor) -> list[Tensor]:
        """Return (B, C · 4^(n−j), H / 2^(n−j), W / 2^(n−j)) of each level j, for a condition (B, C, H, W)."""
        levels = len(self.channels)
        return [F.pixel_unshuffle(condition, 2 ** (levels - j)) for j in range(levels)]


class FeatureNetwork(nn.Module):
    """What the layers of a cINN read: features of a feed-forward network, at the resolution of each level.

    From finest to coarsest, each level is a convolution with stride 2 and `blocks` residual blocks.
    """

    def __init__(self, channels: int, levels: int, blocks: int, width: int) -> None:
        super().__init__()
        self.channels = [width] * levels
        """Number of channels at each level, coarsest first."""
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels if j == levels - 1 else width, width, 3, stride=2, padding=1),
                *(ResidualBlock(width) for _ in range(blocks)),
                nn.ReLU(),
            )
            for j in range(levels)
        )
        for level in self.levels:  # PyTorch's own initialization would shrink the features from level to level
            nn.init.kaiming_normal_(cast(nn.Conv2d, cast(nn.Sequential, level)[0]).weight, nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, condition: Tensor) -> list[Tensor]:
        """Return features (B, width, H / 2^(n−j), W / 2^(n−j)) of each level j, for a condition (B, C, H, W)."""
        features: list[Tensor] = []
        for level in reversed(self.levels):
            condition = level(condition)
            features.append(condition)
        return features[::-1]


class WholeImage(nn.Module):
    """Takes the place of the target flow: the latents are the image itself, and the log-determinants are 0."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.count = levels

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the image as the only latent."""
        return [x], x.new_zeros(len(x), self.count)

    def inverse(self, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the only latent as the image."""
        return latents[0], latents[0].new_zeros(len(latents[0]), self.count)


class ConditionalImageFlow(nn.Module):
    """Glow whose couplings read the condition. It takes the place of the conditional flow.

    The noise z[j, j] has the shape of the latents of level j of an `ImageFlow`; there is no other noise.

    Arguments:
        conditions: number of channels of what each level reads, coarsest first.
        steps: number of ActNorm, invertible 1×1 convolution and conditional affine coupling in each level.
        has_prior: whether mean and scale of the noise's distribution depend on the condition.
    """

    def __init__(self, conditions: list[int], steps: int, settings: BlockSettings, has_prior: bool) -> None:
        super().__init__()
        count, self.levels, self.priors = len(conditions), nn.ModuleList(), nn.ModuleList()
        for j, seen in enumerate(conditions):
            squeezed = 4 * CHANNELS * 2 ** (count - 1 - j)
            layers: list[Bijection] = [Squeeze()]
            layers += (TransitionStep(squeezed) for _ in range(settings.transition_steps))
            for _ in range(steps):
                layers += [TransitionStep(squeezed), AffineCoupling(squeezed, settings.width, seen)]
            self.levels.append(Chain(layers))
            # The density N(z; μ, σ²) is that of an affine map to N(0, 1).
            if has_prior:
                self.priors.append(AffineInjector(latent_channels(CHANNELS, count, j), settings.width, seen))

    def forward(self, target: list[Tensor], seen: list[Tensor], *_: None) -> tuple[Latents, Tensor]:
        """Turn the target into noise z[j, j]. Also return log |det| per level j, (B, n) in nats.

        Arguments:
            target: the target alone, as `WholeImage` returns it.
            seen: what each level reads, coarsest first.
        """
        (x,), z, log_dets = target, {}, []
        for j in reversed(range(len(self.levels))):
            x, log_det = self.levels[j](x, seen[j])
            latent, x = split(x) if j > 0 else (x, x)
            if self.priors:
                latent, prior_log_det = self.priors[j](latent, seen[j])
                log_det = log_det + prior_log_det
            z[j, j] = latent
            log_dets.append(log_det)
        return z, torch.stack(log_dets[::-1], dim=1)

    def inverse(self, z: Latents, seen: list[Tensor], _: None) -> tuple[list[Tensor], Tensor]:
        """Turn noise into the target, which is the only element of the list.

        Also return log |det| of this direction per level j, (B, n) in nats.
        """
        x, log_dets = z[0, 0], []
        for j, level in enumerate(self.levels):
            latent, log_det = z[j, j], torch.zeros(())
            if self.priors:
                latent, log_det = cast(Bijection, self.priors[j]).inverse(latent, seen[j])
            x, level_log_det = cast(Chain, level).inverse(join(latent, x) if j > 0 else latent, seen[j])
            log_dets.append(level_log_det + log_det.to(x))
        return [x], torch.stack(log_dets, dim=1)

    def latent_shapes(self, channels: int, height: int, width: int) -> dict[tuple[int, int], tuple[int, int, int]]:
        """Return the shape (C, H, W) of every z[j, j], for a target of shape (channels, height, width)."""
        count = len(self.levels)
        return {
            (j, j): (latent_channels(channels, count, j), height // 2 ** (count - j), width // 2 ** (count - j))
            for j in range(count)
        }


class Baseline(CAFlow):
    """CAFLOW's model with the flow of a baseline in place of its own flows.

    Each level has `target_steps` flow steps with networks of `conditional_width` channels. The features of the cINN
    have `condition_steps` residual blocks per level and `image_width` channels.
    """

    def __init__(self, config: CAFlowConfig, kind: Kind) -> None:
        reader = (
            SqueezedCondition(CHANNELS, config.levels)
            if kind == "conditional Glow"
            else FeatureNetwork(CHANNELS, config.levels, config.condition_steps, config.image_width)
        )
        settings = BlockSettings(config.conditional_width, config.conditional_transition_steps)
        flow = ConditionalImageFlow(reader.channels, config.target_steps, settings, kind == "conditional Glow")
        super().__init__(config)
        parts: dict[str, Any] = {
            "condition_flow": reader,
            "target_flow": WholeImage(config.levels),
            "conditional_flow": flow,
        }
        for name, part in parts.items():
            setattr(self, name, part)

    def encode_condition(self, prepared: Tensor, condition_u: Tensor | float = MIDPOINT) -> tuple[list[Tensor], Tensor]:
        """Return what each level reads of a prepared condition, and 0, since the condition has no density."""
        v, _ = self.condition_pixels(prepared + condition_u)
        return cast(list[Tensor], self.condition_flow(v)), v.new_zeros(len(v))


def train_baseline(recipe: Recipe, kind: Kind, data: Path, file: Path) -> Baseline:
    """Train a baseline as `caflow-train` trains, unless its file exists. Return the model with averaged weights."""
    config = recipe.training
    torch.manual_seed(config.seed)
    model = Baseline(recipe.model, kind)
    if not file.exists():
        crops = find_training_data(recipe, data, Processes(0, 1, torch.device("cpu")), lambda _: None).training
        initialize_from(model, crops.batch(0, range(config.batch)))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_trained(model, recipe, crops), file)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def _trained(model: Baseline, recipe: Recipe, crops: CropSampler) -> dict[str, Tensor]:
    """Run all steps of a recipe, and return the averaged weights."""
    config = recipe.training
    objective, average = Objective(model, config), AveragedWeights(model, config.ema_decay)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    with closing(crops.batches(0, range(config.batch))) as batches:
        for step in range(config.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            optimizer.zero_grad()
            objective(next(batches))["loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            optimizer.step()
            average.update(model, step)
    return average.values
