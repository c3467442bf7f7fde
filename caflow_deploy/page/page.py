"""A page to try a model in a browser: an image in; its samples, their likelihoods and maps out. Needs Gradio.

Gradio reads its environment when it is imported: `caflow page` sets that before it imports this file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from traceback import print_exc
from typing import Any, NamedTuple

import gradio

from caflow_deploy.page.page_results import MOST_SAMPLES, Closed, PageSampler
from caflow_runtime.errors import CaflowError, InputError, NotFinite, UnreadableImage
from caflow_runtime.image_formats import SUFFIXES
from caflow_runtime.judge.calibration import read_calibration
from caflow_runtime.pipeline.pipeline import Pipeline

LARGEST_FILE = "64mb"
LOOK_FOR_OLD_FILES_S, OLD_S = 3600, 24 * 3600
"""Files of a page that stays open go after a day."""
ERROR_S = 20
"""So long an error is shown."""
SAMPLES, TEMPERATURE = 8, 0.8
HOTTEST = 1.2
FONTS = ["system-ui", "sans-serif"]
MONOSPACED = ["ui-monospace", "monospace"]
"""Of the visitor's machine: others would be fetched from elsewhere."""
CSS = """
.gradio-container { max-width: 1280px }
#given { height: 8.5rem }
#looked img { image-rendering: pixelated }
#gallery .grid-wrap { min-height: 0 }
#gallery .grid-container { padding-top: 2rem }
#gallery .thumbnail-item { aspect-ratio: auto }
#gallery .caption-label { max-width: 100%; white-space: pre-line; text-align: left }
"""
TASKS = {
    "super-resolution": "enlarges an image {scale} times",
    "colorization": "colours a grey image",
    "inpainting": "fills in what is black in an image",
    "sketch": "makes an image of a drawing",
}
RANKS = {
    "likelihood": "the most likely",
    "consistency": "closest to the input",
    "typical": "closest to a usual likelihood",
}
MEANINGS = """
* **bits/dim** says how unlikely a sample is to the model; less is likelier. Compare samples of one image only: smooth
  images always have less than detailed ones.
* **Sample typicality**, between 0 and 1, says how usual that is among samples of photographs like this one; be wary of
  less than 0.01. **Image typicality** says how usual the best one is among photographs: the verdict of `caflow filter`.
* **Likelihood map** of the best sample: what is bright surprises the model.
* **Uncertainty map**: what is bright differs from sample to sample, so the input does not settle it.
"""


class Inputs(NamedTuple):
    """What a visitor sets."""

    given: gradio.File
    looked: gradio.Image
    n: gradio.Slider
    temperature: gradio.Slider
    rank: gradio.Radio
    seed: gradio.Number
    go: gradio.Button


class Outputs(NamedTuple):
    """What a run fills."""

    slider: gradio.ImageSlider
    gallery: gradio.Gallery
    download: gradio.DownloadButton
    likelihood: gradio.Image
    uncertainty: gradio.Image


def build_page(sampler: PageSampler) -> gradio.Blocks:
    """The page of a model. Between runs it holds nothing but files, whose names only those know who made them.

    Arguments:
        sampler: its folder lies in GRADIO_TEMP_DIR: files elsewhere would be copied there.
    """
    pipe = sampler.pipe
    name = pipe.folder.stem
    page = gradio.Blocks(False, title=f"caflow: {name}", delete_cache=(LOOK_FOR_OLD_FILES_S, OLD_S))
    with page:
        gradio.Markdown(f"# {name}\n{_about(pipe)}")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                inputs = _inputs(pipe)
            with gradio.Column(scale=3, min_width=480):
                outputs = _outputs(pipe)
                gradio.Markdown(MEANINGS)
        _connect(sampler, inputs, outputs)
    return page


def _inputs(pipe: Pipeline) -> Inputs:
    hint = "Higher: more detail, and more difference."
    return Inputs(
        given=gradio.File(label="Image", file_types=sorted(SUFFIXES), elem_id="given"),
        looked=gradio.Image(label="As it was read", interactive=False, height=150, buttons=[], elem_id="looked"),
        n=gradio.Slider(1, MOST_SAMPLES, SAMPLES, step=1, label="Samples", elem_id="samples"),
        temperature=gradio.Slider(0, HOTTEST, TEMPERATURE, step=0.05, label="Temperature", info=hint),
        rank=gradio.Radio(_ranks(pipe), value="likelihood", label="The best is"),
        seed=gradio.Number(0, label="Seed", precision=0, info="The same one draws the same samples again."),
        go=gradio.Button("Draw samples", variant="primary", elem_id="go"),
    )


def _outputs(pipe: Pipeline) -> Outputs:
    slider = gradio.ImageSlider(
        label="Input | sample" if pipe.manifest.model.scale == 1 else "Input, enlarged | sample",
        type="filepath",
        image_mode=None,  # files stay as they are
        interactive=False,
        buttons=["fullscreen"],
        elem_id="slider",
    )
    gallery = gradio.Gallery(
        label="Samples: click one to see it above",
        type="filepath",
        interactive=False,
        allow_preview=False,
        columns=4,
        height="auto",
        buttons=[],
        elem_id="gallery",
    )
    download = gradio.DownloadButton("Download this sample (PNG)", interactive=False, elem_id="download")
    with gradio.Row():
        return Outputs(slider, gallery, download, _map("Likelihood map"), _map("Uncertainty map"))


def _connect(sampler: PageSampler, inputs: Inputs, outputs: Outputs) -> None:
    """What happens when something is clicked."""

    def look(source: str) -> Path:
        """Show a file as it was read, or refuse it at once."""
        with _shown_errors(source):
            return sampler.write(sampler.read(Path(source)))

    def run(
        source: str | None,
        n: int,
        temperature: float,
        rank: Any,
        seed: int,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008  Gradio's way to ask for it
    ) -> list[Any]:
        def show(done: int, count: int) -> None:
            progress((done, count), desc="sampling", unit="tiles")

        with _shown_errors(source):
            if source is None:
                raise InputError("wanted an image: drop one into the box first")
            results = sampler.draw(Path(source), n, temperature, rank, seed, show)
        best, _ = results.samples[0]
        return [
            (results.enlarged, best),
            gradio.Gallery(results.samples, selected_index=0),
            gradio.DownloadButton(value=best, interactive=True),
            _filled("Likelihood map", results.likelihood),
            _filled("Uncertainty map", results.uncertainty),
        ]

    def pick(shown: tuple[str, str], samples: list[tuple[str, str]], event: gradio.SelectData) -> list[Any]:
        picked, _ = samples[event.index]
        return [(shown[0], picked), picked]

    given, looked, *settings, go = inputs
    looking = given.upload(look, given, looked, show_progress="hidden")
    looking.failure(lambda: [None, None], outputs=[given, looked])
    given.clear(lambda: None, outputs=looked)
    go.click(run, [given, *settings], list(outputs), show_progress_on=outputs.slider, concurrency_limit=1)
    outputs.gallery.select(
        pick, [outputs.slider, outputs.gallery], [outputs.slider, outputs.download], show_progress="hidden"
    )


@contextmanager
def open_page(pipe: Pipeline, folder: Path, host: str, port: int, opens_browser: bool) -> Iterator[str]:
    """The page's address, where it is answered until the block ends."""
    sampler = PageSampler(pipe, folder)
    page = build_page(sampler)
    # Not mount_gradio_app: there visitors could name any file of this machine as theirs.
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=opens_browser,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size=LARGEST_FILE,
        theme=gradio.themes.Default(font=FONTS, font_mono=MONOSPACED),
        css=CSS,
    )
    try:
        yield str(page.local_url)
    finally:
        sampler.close()
        page.close(verbose=False)


def _about(pipe: Pipeline) -> str:
    model = pipe.manifest.model
    does = TASKS.get(model.task, "makes an image of an image").format(scale=model.scale)
    return (
        f"A model that {does}. It does not give one answer: it draws samples, and knows how likely each is. "
        "Your images are sent nowhere else."
    )


def _ranks(pipe: Pipeline) -> list[tuple[str, str]]:
    """Those that the model can."""
    impossible = {"consistency"} if pipe.manifest.model.task == "image-to-image" else set()
    if read_calibration(pipe.folder) is None:
        impossible.add("typical")
    return [(text, rank) for rank, text in RANKS.items() if rank not in impossible]


def _map(label: str) -> gradio.Image:
    return gradio.Image(label=label, format="png", interactive=False, buttons=["fullscreen"])


def _filled(label: str, found: tuple[Any, str] | None) -> gradio.Image:
    """A map with what its colours mean; of a single sample there is none of uncertainty."""
    if found is None:
        return gradio.Image(None, label=f"{label}: of two samples or more")
    picture, meaning = found
    return gradio.Image(picture, label=f"{label} ({meaning})")


@contextmanager
def _shown_errors(source: str | None) -> Iterator[None]:
    """What is wrong, as a message on the page: what a visitor can mend, and nothing of what is where on the server."""
    try:
        yield
    except (InputError, UnreadableImage, NotFinite, Closed) as error:
        text = str(error).replace(source, Path(source).name) if source else str(error)
    except MemoryError:
        text = "memory ran out: ask for fewer samples, or reduce the image"
    except (CaflowError, OSError):
        print_exc()
        text = "something went wrong on the server, which has said there what it was"
    else:
        return
    raise gradio.Error(escape(text), duration=ERROR_S, print_exception=False)
