"""Web page: a visitor uploads an image and gets samples, their verdicts, and maps. Requires Gradio.

Gradio reads environment variables when it is imported, so `caflow page` sets them before it imports this module.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from time import monotonic
from traceback import print_exc
from typing import Any

import gradio
from starlette.middleware import Middleware

from caflow_deploy.page import page_texts
from caflow_deploy.page.guard import Guard
from caflow_deploy.page.many_images import draw_all
from caflow_deploy.page.page_inputs import Inputs, add_inputs, settings_of_visitor
from caflow_deploy.page.page_outputs import Drawn, Outputs, add_outputs, no_values, values_of_one, values_of_several
from caflow_deploy.page.page_records import Closed, Plan
from caflow_deploy.page.page_sampler import PageSampler
from caflow_deploy.page.page_texts import CSS, DISMISS_ERRORS, FONTS, MONOSPACED, SHOW_RESULTS
from caflow_deploy.page.painting import read_painting
from caflow_runtime.errors import CaflowError, InputError, NotFinite, UnreadableImage
from caflow_runtime.interruptible import is_call_left
from caflow_runtime.pipeline.estimates import duration
from caflow_runtime.pipeline.pipeline import Pipeline

LARGEST_FILE = "64mb"
LOOK_FOR_OLD_FILES_S, OLD_S = 3600, 24 * 3600
"""Interval of the search for old files, and their age, in seconds. Uploads and results are deleted after a day, even if
the page stays open."""


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
            outputs = add_outputs(sampler.pipe)
    _connect(sampler, inputs, outputs)


def _connect(sampler: PageSampler, inputs: Inputs, outputs: Outputs) -> None:
    """Connect the buttons and uploads of the page to functions."""

    def nothing() -> list[Any]:
        return [None, gradio.Image(None, visible=False), *no_values()]

    def look(given: str | list[str] | None) -> list[Any]:
        """Show the uploaded image, or the first one, without results, or report at once why it cannot be used."""
        with _shown_errors():
            if not given:
                return nothing()
            image = sampler.read(_paths(given)[0])
            places = sampler.places(image.rgb, image.rgb)
            return [str(sampler.write(image)), gradio.Image(places, visible=places is not None), *no_values()]

    def expect(asked: dict[Any, Any]) -> str:
        """Say what will be drawn and how long it takes, or why it cannot be drawn."""
        plans, seconds, wrong = list[Plan](), 0.0, list[str]()
        for path in _paths(asked[inputs.given]):
            try:
                image = sampler.read(path)
                wrong += [f"{path.name}: {warning}" for warning in image.warnings]
                plans.append(sampler.plan(image, settings_of_visitor(inputs, asked)))
                seconds += sampler.seconds(image, plans[-1])
            except UnreadableImage as error:
                wrong.append(f"{path.name}: {error.why}")
            except InputError as error:
                wrong.append(str(error))
            except (CaflowError, OSError):
                continue  # `run` reports it
        said = [page_texts.expectation_of(plans, seconds)] if plans else []
        return "\n\n".join([*said, *map(escape, dict.fromkeys(wrong))])

    def run(
        asked: dict[Any, Any],
        request: gradio.Request,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008  Gradio passes its progress bar to a default of this kind
    ) -> list[Any]:
        with _shown_errors():
            sources, settings = _paths(asked[inputs.given]), settings_of_visitor(inputs, asked)
            if not sources:
                raise InputError("there is no image: drop one into the box first")
            painting = read_painting(asked.get(looked)) if isinstance(looked, gradio.ImageEditor) else None
            show = _progress_of(progress, len(sources))
            with sampler.visit(request.session_hash):
                if len(sources) > 1:
                    return values_of_several(sampler, *draw_all(sampler, sources, settings, show))
                return values_of_one(sampler, sampler.draw(sources[0], settings, partial(show, 0), painting))

    def pick(drawn: Drawn | None, event: gradio.SelectData) -> list[Any]:
        with _shown_errors():
            if drawn is None or event.index not in range(len(drawn.shown)):
                raise InputError("this sample is not here any more; draw samples again")
        picked = drawn.shown[event.index]
        return [
            (picked.enlarged, picked.sample.path),
            picked.verdict,
            drawn.archive or picked.sample.path,
            picked.sample.figures,
        ]

    def cancel(request: gradio.Request) -> Any:
        return "Cancelled." if sampler.cancel(request.session_hash) else gradio.skip()

    # Visitors could name other files of this machine in the values of the gallery, so the server remembers its own.
    drawn = gradio.State(time_to_live=OLD_S)
    given, looked, places, go = inputs.given, inputs.looked, inputs.places, inputs.go
    gradio.on([go.click, given.upload, given.clear, outputs.gallery.select], js=DISMISS_ERRORS)
    filled = [*outputs, places, drawn]
    fades = [outputs.slider, outputs.verdict]  # while the next result is drawn
    running = go.click(run, inputs.settings, filled, show_progress_on=fades, concurrency_limit=1)
    running.success(js=SHOW_RESULTS)
    inputs.stop.click(cancel, outputs=inputs.said, cancels=running, show_progress="hidden")
    # One function empties the outputs and shows the image: Draw may be clicked as soon as a file is uploaded.
    hidden: dict[str, Any] = {"show_progress": "hidden"}
    looking = hidden | {"fn": look, "inputs": given, "outputs": [looked, places, *outputs, drawn]}
    saying = hidden | {"fn": expect, "inputs": inputs.settings - {looked}, "outputs": inputs.said}
    for looks in (given.upload(**looking), gradio.on([given.delete, given.clear], **looking, cancels=running)):
        looks.failure(lambda: [None, *nothing()], outputs=[given, *looking["outputs"]])
        looks.success(**saying)
    changes = [
        one.change for one in (inputs.model, inputs.size, inputs.n, inputs.temperature, inputs.rank, inputs.seed)
    ]
    gradio.on(changes, **saying, trigger_mode="always_last")
    outputs.gallery.select(pick, drawn, [*outputs[:3], outputs.figures], show_progress="hidden")


def _paths(given: str | list[str] | None) -> list[Path]:
    """Return the files that a visitor uploaded."""
    return [Path(path) for path in ([given] if isinstance(given, str) else given or [])]


def _progress_of(progress: gradio.Progress, images: int) -> Callable[[int, int, int], None]:
    """Return a function that shows how much of which image is drawn."""
    began = monotonic()

    def show(image: int, done: int, count: int) -> None:
        share = (image + done / count) / images
        which = f" image {image + 1} of {images}" if images > 1 else ""
        left = f", about {duration((monotonic() - began) * (1 - share) / share)} left" if 0 < share < 1 else ""
        progress(share, desc=f"drawing{which}{left}")

    return show


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
