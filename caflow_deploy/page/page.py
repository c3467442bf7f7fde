"""Web page to try a model: a visitor uploads an image and gets samples, their verdicts, and maps. Requires Gradio.

Gradio reads environment variables when it is imported, so `caflow page` sets them before it imports this module.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from traceback import print_exc
from typing import Any, NamedTuple

import gradio
from starlette.middleware import Middleware

from caflow_deploy.images.file_search import SUFFIXES
from caflow_deploy.page import page_texts
from caflow_deploy.page.guard import Guard
from caflow_deploy.page.judged_sample import JudgedSample
from caflow_deploy.page.page_results import MAX_SAMPLES, Closed, PageSampler, Settings
from caflow_deploy.page.page_texts import CSS, DISMISS_ERRORS, FONTS, MONOSPACED, SHOW_RESULTS
from caflow_deploy.page.painting import painting_editor, read_painting
from caflow_runtime.bundle.manifest import ModelInput
from caflow_runtime.errors import CaflowError, InputError, NotFinite, UnreadableImage
from caflow_runtime.interruptible import is_call_left
from caflow_runtime.pipeline.pipeline import Pipeline

LARGEST_FILE = "64mb"
LOOK_FOR_OLD_FILES_S, OLD_S = 3600, 24 * 3600
"""Interval of the search for old files, and their age, in seconds. Uploads and results are deleted after a day, even if
the page stays open."""
SAMPLES = 8
"""Initial values of the page's settings."""
BRUSHES = {
    "mask": gradio.Brush(colors=["#e02020"], color_mode="fixed"),
    "hints": gradio.Brush(8, colors=["#d9b08c", "#6b4a2b", "#7fb4e0", "#3f7a32", "#c03028", "#e8c040", "#808080"]),
}
"""Brush for each input that a visitor paints. That for hints begins with 8 pixels, and with the colours of skin, wood,
sky and leaves, red, yellow and grey."""
MAP_LABELS = ("Likelihood map", "Uncertainty map")
USUAL_TEMPERATURES = [0.0, 0.5, 0.7, 0.8, 0.9, 1.0]
"""Temperatures that the page offers for a model that cannot judge samples."""


class Inputs(NamedTuple):
    """Components that a visitor sets."""

    given: gradio.File
    looked: gradio.Image | gradio.ImageEditor
    n: gradio.Slider
    temperature: gradio.Dropdown
    rank: gradio.Radio
    seed: gradio.Number
    go: gradio.Button


class Outputs(NamedTuple):
    """Components that show the results."""

    slider: gradio.ImageSlider
    verdict: gradio.HTML
    download: gradio.DownloadButton
    gallery: gradio.Gallery
    figures: gradio.Markdown
    likelihood: gradio.Image
    uncertainty: gradio.Image


class Drawn(NamedTuple):
    """Files of the last run of a visitor."""

    enlarged: Path
    """The input, enlarged."""
    samples: list[JudgedSample]
    settings: str
    """The settings with which they were drawn, in words."""


def build_page(sampler: PageSampler) -> gradio.Blocks:
    """Return the page of a model.

    Between runs, the server keeps results only in files. Their names are known only to the visitor who made them, and
    to the server while the visitor's page is open.

    Arguments:
        sampler: its folder must be in GRADIO_TEMP_DIR; Gradio would copy files from other folders there.
    """
    pipe = sampler.pipe
    title = page_texts.title_of(pipe)
    page = gradio.Blocks(False, title=title, delete_cache=(LOOK_FOR_OLD_FILES_S, OLD_S))
    with page:
        gradio.Markdown(f"# {title}\n{page_texts.ABOUT}")
        with gradio.Row(elem_id="columns"):
            with gradio.Column(scale=3 if pipe.manifest.model.inputs else 1, min_width=280):
                inputs = _inputs(sampler)
                for setting in (inputs.n, inputs.temperature, inputs.rank, inputs.seed):
                    setting.preprocess = _as_posted  # type: ignore[method-assign, assignment]
            with gradio.Column(scale=3, min_width=480, elem_id="results"):
                outputs = _outputs(pipe)
        _connect(sampler, inputs, outputs)
    return page


def _inputs(sampler: PageSampler) -> Inputs:
    own = sampler.pipe.manifest.model.sampling
    return Inputs(
        given=gradio.File(label="Image", file_types=sorted(SUFFIXES), elem_id="given"),
        looked=_looked(sampler.pipe.manifest.model.inputs),
        n=gradio.Slider(
            1, MAX_SAMPLES, SAMPLES, step=1, label="Samples", info="How many results to draw.", elem_id="samples"
        ),
        temperature=_temperatures(sampler.temperatures, own.temperature),
        rank=gradio.Radio(
            page_texts.ranks_of(sampler.pipe),
            value=own.rank,
            label="Best sample",
            info="Which sample to show first.",
        ),
        seed=gradio.Number(
            0,
            label="Seed",
            precision=0,
            elem_id="seed",
            info="Starts the random numbers: the same number gives the same samples again, another one gives others.",
        ),
        go=gradio.Button("Draw samples", variant="primary", elem_id="go"),
    )


def _looked(painted: list[ModelInput]) -> gradio.Image | gradio.ImageEditor:
    """Return what shows the input; for a model with a mask or hints, with a brush to paint them.

    Arguments:
        painted: the model's inputs beside the image, at most one.
    """
    if not painted:
        return gradio.Image(label="Input", interactive=False, height=150, buttons=[], elem_id="looked")
    (port,) = painted
    gradio.Markdown(page_texts.painting_of(port))
    return painting_editor(
        label="Input",
        sources=[],
        transforms=[],
        layers=False,
        brush=BRUSHES[port.name],
        format="png",
        interactive=True,
        buttons=[],
        elem_id="editor",
    )


def _temperatures(judged: list[float], own: float) -> gradio.Dropdown:
    """Return the choice of a temperature.

    Arguments:
        judged: temperatures at which samples can be judged.
        own: temperature that the model is best used with.
    """
    hint = "0 to 1 is useful; higher values give more detail, and samples that differ more."
    offered = judged or USUAL_TEMPERATURES
    return gradio.Dropdown(
        [(f"{temperature:g}", temperature) for temperature in offered],
        value=min(offered, key=lambda temperature: abs(temperature - own)),
        label="Temperature",
        info=f"{hint} You can type other values, but their samples cannot be judged." if judged else hint,
        allow_custom_value=True,
        elem_id="temperature",
    )


def _outputs(pipe: Pipeline) -> Outputs:
    slider = gradio.ImageSlider(
        label="Input | sample" if pipe.manifest.model.scale == 1 else "Input, enlarged | sample",
        type="filepath",
        image_mode=None,  # do not convert the files
        interactive=False,
        buttons=["fullscreen"],
        elem_id="slider",
    )
    verdict = gradio.HTML(elem_id="verdict")
    download = gradio.DownloadButton("Download this sample (PNG)", interactive=False, elem_id="download")
    gallery = gradio.Gallery(
        label="Samples: click one to show it above",
        type="filepath",
        interactive=False,
        allow_preview=False,
        height="auto",
        buttons=[],
        elem_id="gallery",
    )
    with gradio.Accordion("Figures and maps", open=False, elem_id="details"):
        figures = gradio.Markdown(elem_id="figures")
        with gradio.Row():
            maps = [_map(label) for label in MAP_LABELS]
        gradio.Markdown(page_texts.MAPS)
    return Outputs(slider, verdict, download, gallery, figures, *maps)


def _connect(sampler: PageSampler, inputs: Inputs, outputs: Outputs) -> None:
    """Connect the buttons and uploads of the page to functions."""

    def look(source: str) -> str:
        """Show the uploaded image, or report at once why it cannot be used."""
        with _shown_errors():
            return str(sampler.write(sampler.read(Path(source))))

    def run(
        source: str | None,
        n: Any,
        temperature: Any,
        rank: Any,
        seed: Any,
        painting: bytes | None = None,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008  Gradio passes its progress bar to a default of this kind
    ) -> list[Any]:
        def show(done: int, count: int) -> None:
            progress((done, count), desc="sampling", unit="tiles")

        with _shown_errors():
            if source is None:
                raise InputError("there is no image: drop one into the box first")
            chosen = Settings(n, _number(temperature), rank, seed)
            results = sampler.draw(Path(source), chosen, show, read_painting(painting))
        settings = page_texts.settings_of(chosen)
        best = results.samples[0]
        captioned = [(sample.path, page_texts.caption_of(sample, k)) for k, sample in enumerate(results.samples)]
        return [
            (results.enlarged, best.path),
            page_texts.verdict_of(best, results.samples, settings, other),
            gradio.DownloadButton(value=best.path, interactive=True),
            gradio.Gallery(captioned, selected_index=0),
            best.figures,
            *map(_filled, MAP_LABELS, (results.likelihood, results.uncertainty)),
            Drawn(results.enlarged, results.samples, settings),
        ]

    def pick(drawn: Drawn | None, event: gradio.SelectData) -> list[Any]:
        with _shown_errors():
            if drawn is None or event.index not in range(len(drawn.samples)):
                raise InputError("this sample is not here any more; draw samples again")
        picked = drawn.samples[event.index]
        verdict = page_texts.verdict_of(picked, drawn.samples, drawn.settings, other)
        return [(drawn.enlarged, picked.path), verdict, picked.path, picked.figures]

    # Visitors could name other files of this machine in the values of the gallery, so the server remembers its own.
    other = page_texts.other_model(sampler.pipe)
    drawn = gradio.State(time_to_live=OLD_S)
    given, looked, *settings, go = inputs
    gradio.on([go.click, given.upload, given.clear, outputs.gallery.select], js=DISMISS_ERRORS)
    looking = given.upload(look, given, looked, show_progress="hidden")
    looking.failure(lambda: [None, None], outputs=[given, looked])
    given.clear(lambda: None, outputs=looked)
    asked = [given, *settings, *([looked] if isinstance(looked, gradio.ImageEditor) else [])]
    running = go.click(run, asked, [*outputs, drawn], show_progress_on=outputs.slider, concurrency_limit=1)
    running.success(js=SHOW_RESULTS)
    changed = [given.upload, given.clear]
    gradio.on(changed, _empty, outputs=[*outputs, drawn], show_progress="hidden", cancels=running)
    outputs.gallery.select(pick, drawn, [*outputs[:3], outputs.figures], show_progress="hidden")


@contextmanager
def open_page(pipe: Pipeline, folder: Path, host: str, port: int, opens_browser: bool) -> Iterator[str]:
    """Serve the page until the block ends, and yield its address."""
    sampler = PageSampler(pipe, folder)
    page = build_page(sampler)
    # Do not use mount_gradio_app: visitors could then read any file of this machine by naming it as their upload.
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
        app_kwargs={"middleware": [Middleware(Guard, host=host, folder=folder)]},
        theme=gradio.themes.Default(font=FONTS, font_mono=MONOSPACED).set(block_info_text_color="*neutral_600"),
        css=CSS,
    )
    try:
        yield str(page.local_url)
    finally:
        sampler.close()
        if is_call_left(is_stopped=True):  # an upload is decoded: do not wait for the end of its request
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            page.server.force_exit = True
        page.close(verbose=False)


def _as_posted(value: Any) -> Any:
    """Return a value unchanged: it is checked when it is used. Gradio's checks log a traceback for each wrong one."""
    return value


def _number(temperature: Any) -> float:
    """Return a temperature that was chosen or typed.

    Raises:
        InputError: if it is not a number.
    """
    try:
        return float(temperature)
    except (TypeError, ValueError):
        raise InputError(f"the temperature must be a number, such as 0.8; got {temperature!r}") from None


def _empty() -> list[Any]:
    """Return the values of the outputs, and of what was drawn, before anything is drawn."""
    download = gradio.DownloadButton(value=None, interactive=False)
    maps = [gradio.Image(None, label=label) for label in MAP_LABELS]
    return [None, "", download, None, "", *maps, None]


def _map(label: str) -> gradio.Image:
    return gradio.Image(label=label, format="png", interactive=False, buttons=["fullscreen"], elem_classes="map")


def _filled(label: str, found: tuple[Any, str] | None) -> gradio.Image:
    """Return a map with the range of its values. A single sample has no uncertainty map."""
    if found is None:
        return gradio.Image(None, label=f"{label}: requires two samples or more")
    return gradio.Image(found[0], label=f"{label}: {found[1]}")


@contextmanager
def _shown_errors() -> Iterator[None]:
    """Show errors on the page until the next action. Visitors see only those that they can fix, and no server paths."""
    try:
        yield
    except UnreadableImage as error:
        text = f"{error.path.name}: {error.why}"
    except (InputError, NotFinite, Closed) as error:
        text = str(error)
    except MemoryError:
        text = "memory ran out; request fewer samples, or reduce the image"
    except (CaflowError, OSError):
        print_exc()
        text = "an error occurred on the server; its log has the details"
    else:
        return
    raise gradio.Error(escape(text), duration=None, print_exception=False)
