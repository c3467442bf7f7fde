"""Web page: a visitor uploads an image and gets samples, their verdicts, and maps. Requires Gradio.

Gradio reads environment variables when it is imported, so `caflow page` sets them before it imports this module.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from time import monotonic
from traceback import print_exc
from typing import Any, NamedTuple

import gradio
from starlette.middleware import Middleware

from caflow_deploy.page import page_texts
from caflow_deploy.page.guard import Guard
from caflow_deploy.page.judged_sample import JudgedSample
from caflow_deploy.page.page_inputs import Inputs, add_inputs, settings_of_visitor
from caflow_deploy.page.page_sampler import Closed, PageSampler
from caflow_deploy.page.page_texts import CSS, DISMISS_ERRORS, FONTS, MONOSPACED, SHOW_RESULTS
from caflow_deploy.page.painting import read_painting
from caflow_runtime.errors import CaflowError, InputError, NotFinite, UnreadableImage
from caflow_runtime.interruptible import is_call_left
from caflow_runtime.pipeline.pipeline import Pipeline

LARGEST_FILE = "64mb"
LOOK_FOR_OLD_FILES_S, OLD_S = 3600, 24 * 3600
"""Interval of the search for old files, and their age, in seconds. Uploads and results are deleted after a day, even if
the page stays open."""
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


class Drawn(NamedTuple):
    """Files of the last run of a visitor."""

    enlarged: Path
    """The input, enlarged."""
    samples: list[JudgedSample]
    settings: str
    """The settings with which they were drawn, in words."""
    other_model: str
    """Sentence about another model; empty if there is none."""


def build_page(samplers: Sequence[PageSampler]) -> gradio.Blocks:
    """Return the page, with a tab for each sampler if there are several.

    Between runs, the server keeps results only in files. Their names are known only to the visitor who made them, and
    to the server while the visitor's page is open.

    Arguments:
        samplers: their folders must be in GRADIO_TEMP_DIR; Gradio would copy files from other folders there.
    """
    is_single = len(samplers) == 1
    title = page_texts.title_of(samplers[0].pipe) if is_single else page_texts.TITLE
    page = gradio.Blocks(False, title=title, delete_cache=(LOOK_FOR_OLD_FILES_S, OLD_S))
    with page:
        gradio.Markdown(f"# {title}\n{page_texts.ABOUT}")
        if is_single:
            _add(samplers[0])
        else:
            with gradio.Tabs():
                for sampler in samplers:
                    with gradio.Tab(page_texts.TABS[sampler.pipe.manifest.model.task]):
                        _add(sampler)
    return page


def _add(sampler: PageSampler) -> None:
    """Add what a visitor sets and sees of a sampler."""
    with gradio.Row(elem_classes="columns"):
        with gradio.Column(scale=3 if sampler.pipe.manifest.model.inputs else 1, min_width=280):
            inputs = add_inputs(sampler)
        with gradio.Column(scale=3, min_width=480, elem_classes="results"):
            outputs = _outputs(sampler.pipe)
    _connect(sampler, inputs, outputs)


def _outputs(pipe: Pipeline) -> Outputs:
    slider = gradio.ImageSlider(
        label="Input | sample" if pipe.manifest.model.scale == 1 else "Input, enlarged | sample",
        type="filepath",
        image_mode=None,  # do not convert the files
        interactive=False,
        buttons=["fullscreen"],
        elem_classes="slider",
    )
    verdict = gradio.HTML(elem_classes="judged")
    download = gradio.DownloadButton("Download this sample (PNG)", interactive=False, elem_classes="download-sample")
    gallery = gradio.Gallery(
        label="Samples: click one to show it above",
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


def _connect(sampler: PageSampler, inputs: Inputs, outputs: Outputs) -> None:
    """Connect the buttons and uploads of the page to functions."""

    def look(source: str) -> str:
        """Show the uploaded image, or report at once why it cannot be used."""
        with _shown_errors():
            return str(sampler.write(sampler.read(Path(source))))

    def run(
        asked: dict[Any, Any],
        request: gradio.Request,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008  Gradio passes its progress bar to a default of this kind
    ) -> list[Any]:
        began = monotonic()

        def show(done: int, count: int) -> None:
            left = (monotonic() - began) * (count - done) / max(1, done)
            progress((done, count), desc=f"drawing, about {left:.0f} s left", unit="tiles")

        with _shown_errors():
            source = asked[inputs.given]
            if source is None:
                raise InputError("there is no image: drop one into the box first")
            painting = read_painting(asked.get(looked)) if isinstance(looked, gradio.ImageEditor) else None
            results = sampler.draw(
                Path(source), settings_of_visitor(inputs, asked), show, painting, request.session_hash
            )
        settings, other = page_texts.settings_of(results), page_texts.other_model(sampler, results.model)
        best = results.samples[0]
        captioned = [(sample.path, page_texts.caption_of(sample, k)) for k, sample in enumerate(results.samples)]
        return [
            (results.enlarged, best.path),
            page_texts.verdict_of(best, results.samples, settings, other),
            gradio.DownloadButton(value=best.path, interactive=True),
            gradio.Gallery(captioned, selected_index=0),
            best.figures,
            *map(_filled, MAP_LABELS, (results.likelihood, results.uncertainty)),
            Drawn(results.enlarged, results.samples, settings, other),
        ]

    def pick(drawn: Drawn | None, event: gradio.SelectData) -> list[Any]:
        with _shown_errors():
            if drawn is None or event.index not in range(len(drawn.samples)):
                raise InputError("this sample is not here any more; draw samples again")
        picked = drawn.samples[event.index]
        verdict = page_texts.verdict_of(picked, drawn.samples, drawn.settings, drawn.other_model)
        return [(drawn.enlarged, picked.path), verdict, picked.path, picked.figures]

    def cancel(request: gradio.Request) -> None:
        sampler.cancel(request.session_hash)

    # Visitors could name other files of this machine in the values of the gallery, so the server remembers its own.
    drawn = gradio.State(time_to_live=OLD_S)
    given, looked, *settings, go, stop = inputs
    gradio.on([go.click, given.upload, given.clear, outputs.gallery.select], js=DISMISS_ERRORS)
    looking = given.upload(look, given, looked, show_progress="hidden")
    looking.failure(lambda: [None, None], outputs=[given, looked])
    given.clear(lambda: None, outputs=looked)
    asked: set[gradio.blocks.Block] = {given, *settings, *([looked] if isinstance(looked, gradio.ImageEditor) else [])}
    running = go.click(run, asked, [*outputs, drawn], show_progress_on=outputs.slider, concurrency_limit=1)
    running.success(js=SHOW_RESULTS)
    changed = [given.upload, given.clear]
    stop.click(cancel, cancels=running, show_progress="hidden")
    gradio.on(changed, _empty, outputs=[*outputs, drawn], show_progress="hidden", cancels=running)
    outputs.gallery.select(pick, drawn, [*outputs[:3], outputs.figures], show_progress="hidden")


@contextmanager
def open_page(
    tabs: Sequence[Sequence[Pipeline]], folder: Path, host: str, port: int, opens_browser: bool
) -> Iterator[str]:
    """Serve the page until the block ends, and yield its address.

    Arguments:
        tabs: the models of each tab, as in `PageSampler`.
    """
    samplers = [PageSampler(pipes, folder) for pipes in tabs]
    page = build_page(samplers)
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
        for sampler in samplers:
            sampler.close()
        if is_call_left(is_stopped=True):  # an upload is decoded: do not wait for the end of its request
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            page.server.force_exit = True
        page.close(verbose=False)


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
