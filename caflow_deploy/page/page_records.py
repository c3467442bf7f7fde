"""What a visitor sets on the page, and what is drawn for it. Does not require Gradio."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from caflow_deploy.images.model_passes import OutputSpec
from caflow_deploy.page.judged_sample import JudgedSample
from caflow_runtime.batching.draw_options import DrawOptions, Rank
from caflow_runtime.errors import CaflowError
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.sizes import Size


class Settings(NamedTuple):
    """Settings with which samples are drawn, as in `Pipeline.sample`."""

    n: int | None
    """None: by the size of the result."""
    temperature: float | None
    """None: the one that the model is best used with."""
    rank: Rank
    seed: int
    model: str | None = None
    """Name of a model of the sampler. None: chosen by the image, if there are several."""
    size: Size | None = None
    """Size of the result. None: the one that the model makes."""


class Plan(NamedTuple):
    """How an image is drawn with a visitor's settings."""

    pipe: Pipeline
    because: str
    """Why this model was chosen, as a clause; empty if nothing was chosen."""
    options: DrawOptions
    form: OutputSpec


@dataclass(frozen=True)
class Results:
    """Results for one image."""

    name: str
    """Name of the image's file, without its suffix."""
    plan: Plan
    enlarged: Path
    """The condition, bicubically enlarged to the size of the samples."""
    samples: list[JudgedSample]
    """The best sample first."""
    likelihood: tuple[Image, str]
    """Likelihood map of the best sample, and the values of its darkest and its brightest colour."""
    uncertainty: tuple[Image, str] | None
    """Uncertainty map of all samples, with these values; None if there is only one sample."""
    places: Image | None
    """The best sample with rings where further hints of colour would help most; None if the model takes no hints."""

    warnings: tuple[str, ...]
    """As in `ImageResult`."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.plan.pipe.folder.stem


class Closed(CaflowError):
    """The page is being closed, or the visitor has cancelled, so no more samples are drawn."""
