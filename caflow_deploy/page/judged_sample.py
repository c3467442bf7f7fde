"""A sample as the page shows it: a file, a verdict in words, and figures. Does not require Gradio."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caflow_runtime.rows.draw import Reject

ALPHA = Reject().alpha
"""Samples with a lower typicality are unusual: the rule of `caflow image --min-typicality 0.01`."""


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
        return "unusual" if self.typicality < ALPHA else "usual"

    @property
    def message(self) -> str:
        """The verdict in words."""
        return {
            "usual": "Usual for photographs of this kind",
            "unusual": "Unusual: look at it",
            "unjudged": f"Cannot be judged: {self.obstacle}",
        }[self.verdict]

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
                f"least as unusual, from 0 to 1; a sample below {ALPHA:g} is called unusual."
            )
        if self.consistency is not None:
            lines.append(
                f"**Consistency {self.consistency:.1f} dB**: how closely the sample, degraded again, matches the "
                "input; higher is closer."
            )
        return "\n".join(f"* {line}" for line in lines)
