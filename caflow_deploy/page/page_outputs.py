"""What a visitor sees of results: the components, and their values for one image or for several."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import gradio

from caflow_deploy.page import page_texts
from caflow_deploy.page.judged_sample import JudgedSample
from caflow_deploy.page.many_images import archive_of
from caflow_deploy.page.page_records import Results
from caflow_deploy.page.page_sampler import PageSampler
from caflow_runtime.pipeline.pipeline import Pipeline

SAMPLES, RESULTS = (f"{what}: click one to show it above" for what in ("Samples", "Results"))
DOWNLOAD = "Download this sample (PNG)"
MAP_LABELS = ("Likelihood map", "Uncertainty map")


class Outputs(NamedTuple):
    """Components that show the results."""

    slider: gradio.ImageSlider
    verdict: gradio.HTML
    download: gradio.DownloadButton
    gallery: gradio.Gallery
    figures: gradio.Markdown
    likelihood: gradio.Image
    uncertainty: gradio.Image


class Shown(NamedTuple):
    """A sample of the gallery, and what is shown with it."""

    enlarged: Path
    """The input, enlarged."""
    sample: JudgedSample
    caption: str
    verdict: str
    """The verdict, and the settings with which the sample was drawn, as HTML."""


class Drawn(NamedTuple):
    """What the last run of a visitor shows."""

    shown: list[Shown]
    archive: Path | None
    """A file with the best samples of several images; None if there was one image."""


def add_outputs(pipe: Pipeline) -> Outputs:
    """Add what a visitor sees of results."""
    slider = gradio.ImageSlider(
        label="Input | sample" if pipe.manifest.model.scale == 1 else "Input, enlarged | sample",
        type="filepath",
        image_mode=None,  # do not convert the files
        interactive=False,
        buttons=["fullscreen"],
        elem_classes="slider",
    )
    verdict = gradio.HTML(elem_classes="judged")
    download = gradio.DownloadButton(DOWNLOAD, interactive=False, elem_classes="download-sample")
    gallery = gradio.Gallery(
        label=SAMPLES,
        type="filepath",
        interactive=False,
        allow_preview=False,
        height="auto",
        buttons=[],
        elem_classes="gallery",
    )
    with gradio.Accordion("Figures and maps", open=False, elem_classes="details"):
        figures = gradio.Markdown(elem_classes="figures")
        with gradio.Row():
            maps = [_map(label) for label in MAP_LABELS]
        gradio.Markdown(page_texts.MAPS)
    return Outputs(slider, verdict, download, gallery, figures, *maps)


def no_values() -> list[Any]:
    """Return the values of the outputs, and of what was drawn, before anything is drawn."""
    download = gradio.DownloadButton(DOWNLOAD, None, interactive=False)
    maps = [gradio.Image(None, label=label) for label in MAP_LABELS]
    return [None, "", download, None, "", *maps, None]


def values_of_one(sampler: PageSampler, results: Results) -> list[Any]:
    """Return the values of the outputs for all samples of one image."""
    other = page_texts.other_model(sampler, results.model)
    problems = page_texts.problems_of(results.warnings)
    shown = [
        Shown(
            results.enlarged,
            sample,
            page_texts.caption_of(sample, str(k + 1) if k else "best"),
            problems + page_texts.verdict_of(sample, results.samples, page_texts.settings_of(results, k), other),
        )
        for k, sample in enumerate(results.samples)
    ]
    maps = map(_filled, MAP_LABELS, (results.likelihood, results.uncertainty))
    download = gradio.DownloadButton(DOWNLOAD, shown[0].sample.path, interactive=True)
    return [*_filled_outputs(shown, SAMPLES, download, maps), results.places, Drawn(shown, None)]


def values_of_several(sampler: PageSampler, drawn: list[Results], wrong: list[str]) -> list[Any]:
    """Return the values of the outputs for the best samples of several images."""
    shown = list[Shown]()
    for results in drawn:
        problems = page_texts.problems_of([*wrong, *results.warnings])
        best, other = results.samples[0], page_texts.other_model(sampler, results.model)
        verdict = page_texts.verdict_of(best, results.samples, page_texts.settings_of(results), other)
        shown.append(Shown(results.enlarged, best, page_texts.caption_of(best, results.name), problems + verdict))
    archive = archive_of(drawn)
    download = gradio.DownloadButton(f"Download all {len(drawn)} results (ZIP)", archive, interactive=True)
    maps = (gradio.Image(None, label=f"{label}: of a single image") for label in MAP_LABELS)
    return [*_filled_outputs(shown, RESULTS, download, maps), None, Drawn(shown, archive)]


def _filled_outputs(
    shown: list[Shown], label: str, download: gradio.DownloadButton, maps: Iterable[gradio.Image]
) -> list[Any]:
    """Return the values of the outputs, with the first sample in the slider."""
    first = shown[0]
    pictures = [(one.sample.path, one.caption) for one in shown]
    gallery = gradio.Gallery(pictures, label=label, selected_index=0)
    return [(first.enlarged, first.sample.path), first.verdict, download, gallery, first.sample.figures, *maps]


def _map(label: str) -> gradio.Image:
    return gradio.Image(label=label, format="png", interactive=False, buttons=["fullscreen"], elem_classes="map")


def _filled(label: str, found: tuple[Any, str] | None) -> gradio.Image:
    """Return a map with the range of its values. A single sample has no uncertainty map."""
    if found is None:
        return gradio.Image(None, label=f"{label}: requires two samples or more")
    return gradio.Image(found[0], label=f"{label}: {found[1]}")
