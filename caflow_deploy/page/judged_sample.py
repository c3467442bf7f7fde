"""A sample as the page shows it: a file, a verdict in words, and figures. Does not require Gradio."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caflow_deploy.images.image_result import UNUSUAL
from caflow_deploy.images.input_files import CompletedImage
from caflow_runtime.ood.typicality import reason
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Samples

MEANING = "This says how usual the result is for this model, not whether it is sharp or true."

NONE_IS_USUAL = (
    "The picture may be fine: a kind of photograph that the model has rarely seen is unusual, too. Compare it with the "
    "input by the slider. A smaller copy of a large input often gives a usual result."
)


@dataclass(frozen=True)
class JudgedSample:
    """One sample, as a lossless PNG file with the alpha channel of the image if it has one."""

    path: Path
    bits_per_dim: float
    typicality: float | None
    """Typicality among samples of the same temperature, 0…1; None if the sample cannot be judged."""
    obstacle: str
    """Why the sample cannot be judged; empty if it can."""
    consistency: float | None
    """Consistency with the image in dB; None if the task does not define how an image is degraded."""

    @property
    def verdict(self) -> Literal["usual", "unusual", "unjudged"]:
        if self.typicality is None:
            return "unjudged"
        return "unusual" if self.typicality < UNUSUAL else "usual"

    @property
    def message(self) -> str:
        """The verdict in words."""
        return {
            "usual": "Usual for this model",
            "unusual": "Unusual: look at it",
            "unjudged": f"No verdict: {self.obstacle}",
        }[self.verdict]

    def advice(self, samples: Sequence["JudgedSample"], other_model: str = "") -> str:
        """Return what the verdict means and, for an unusual sample, what to do.

        Arguments:
            samples: all samples of the image, in the order of the page.
            other_model: sentence about a model for images that this one is not made for; empty if there is none.
        """
        if self.verdict == "unjudged":
            return ""
        if self.verdict == "usual":
            return MEANING
        usual = [number for number, sample in enumerate(samples, 1) if sample.verdict == "usual"]
        choice = f"Look for faults, or click sample {usual[0]}, which is usual." if usual else NONE_IS_USUAL
        return " ".join(filter(None, (MEANING, choice, other_model)))

    @property
    def figures(self) -> str:
        """The figures as a list in Markdown, each with one sentence."""
        lines = [
            f"**{self.bits_per_dim:.3f} bits/dim**: the negative log-likelihood, which is lower for more likely "
            "samples; compare samples of the same image only."
        ]
        if self.typicality is not None:
            lines.append(
                f"**Typicality {self.typicality:.4f}**: the fraction of samples of similar photographs that are at "
                f"least as unusual, from 0 to 1; a sample below {UNUSUAL:g} is called unusual."
            )
        if self.consistency is not None:
            lines.append(
                f"**Consistency {self.consistency:.1f} dB**: how closely the sample, degraded again, matches the "
                "input; higher is closer."
            )
        return "\n".join(f"* {line}" for line in lines)


def can_be_inconsistent(pipe: Pipeline) -> bool:
    """Return whether samples differ in consistency. Those of models that complete images keep all that is known."""
    return pipe.manifest.has_consistency and pipe.manifest.model.condition_channels == pipe.manifest.model.channels


def judged(path: Path, drawn: Samples, k: int, image: CompletedImage, obstacle: str) -> JudgedSample:
    """Return sample `k` with its figures. `obstacle` says why no sample can be judged."""
    typical, value = drawn.sample_typicality, None
    if typical is not None and not obstacle:
        if typical.is_judged[0, k]:
            value = float(typical.value[0, k])
        else:
            obstacle = reason(typical.of((0, k)))
    measured = (
        image.pipe.consistency.psnr(drawn.images[0][k], image.condition) if can_be_inconsistent(image.pipe) else None
    )
    return JudgedSample(path, float(drawn.bits_per_dim[0, k]), value, obstacle, measured)
