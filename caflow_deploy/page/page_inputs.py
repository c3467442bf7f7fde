"""What a visitor sets on the page: its components, and their values as settings."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import gradio

from caflow_deploy.images.file_search import SUFFIXES
from caflow_deploy.page import page_texts
from caflow_deploy.page.page_records import Settings
from caflow_deploy.page.page_sampler import MAX_SAMPLES, PageSampler
from caflow_deploy.page.painting import painting_editor
from caflow_runtime.bundle.manifest import ModelInput
from caflow_runtime.checks import shown
from caflow_runtime.errors import InputError
from caflow_runtime.sizes import MAX_ENLARGEMENT, Size

Number = TypeVar("Number", int, float)
BRUSHES = {
    "mask": gradio.Brush(10, colors=["#e02020"], color_mode="fixed"),
    "hints": gradio.Brush(8, colors=["#d9b08c", "#6b4a2b", "#7fb4e0", "#3f7a32", "#c03028", "#e8c040", "#808080"]),
}
"""Brush for each input that a visitor paints, and its first diameter in pixels of the image. That for hints has the
colours of skin, wood, sky and leaves, red, yellow and grey."""
AUTOMATIC = "automatic"
"""Value of a setting that the image or the model decides."""
NOTHING = (None, "")
"""Values of an empty field."""


class Inputs(NamedTuple):
    """Components that a visitor sets."""

    given: gradio.File
    """One image, or several where nothing is painted."""
    looked: gradio.Image | gradio.ImageEditor
    places: gradio.Image
    """Where hints of colour would help."""
    model: gradio.Radio
    size: gradio.Dropdown
    n: gradio.Textbox
    temperature: gradio.Textbox
    rank: gradio.Radio
    seed: gradio.Number
    go: gradio.Button
    stop: gradio.Button
    said: gradio.Markdown
    """What the run will take, and whether it was cancelled."""

    @property
    def settings(self) -> set[gradio.blocks.Block]:
        """The components whose values say what is drawn, and how."""
        painted = {self.looked} if isinstance(self.looked, gradio.ImageEditor) else set()
        return {self.given, self.model, self.size, self.n, self.temperature, self.rank, self.seed, *painted}


def add_inputs(sampler: PageSampler) -> Inputs:
    """Add what a visitor sets: what everybody needs first, the rest in a part that opens."""
    own, scale = sampler.pipe.manifest.model.sampling, sampler.pipe.manifest.model.scale
    painted = sampler.pipe.manifest.model.inputs
    given = gradio.File(
        label="Image" if painted else "Image, or several",
        file_count="single" if painted else "multiple",
        file_types=sorted(SUFFIXES),
        elem_classes="given",
    )
    looked = _looked(painted)
    places = gradio.Image(
        label="Where colours help most", interactive=False, visible=False, buttons=[], elem_classes="places"
    )
    model = gradio.Radio(
        [("chosen by the image", AUTOMATIC), *((name, name) for name in sampler.pipes)],
        value=AUTOMATIC,
        label="Model",
        visible=len(sampler.pipes) > 1,
        elem_classes="model",
    )
    size = gradio.Dropdown(
        [f"×{factor}" for factor in range(scale, 1, -1)],
        value=f"×{scale}",
        label="Size",
        info=f"Or type a width in pixels, of at most {MAX_ENLARGEMENT * scale:g} times that of the image.",
        allow_custom_value=True,
        visible=scale > 1,
        elem_classes="size",
    )
    with gradio.Row():
        go = gradio.Button("Draw", variant="primary", elem_classes="go", min_width=100)
        stop = gradio.Button("Cancel", elem_classes="cancel", min_width=100)
    said = gradio.Markdown(elem_classes="said")
    with gradio.Accordion("More settings", open=False, elem_classes="more"):
        n = gradio.Textbox(
            label="Samples",
            max_lines=1,
            placeholder=AUTOMATIC,
            info=f"How many results to draw, up to {MAX_SAMPLES}. Automatic: ten of a small image, one of a large one.",
            elem_classes="samples",
        )
        temperature = _temperature(sampler)
        rank = gradio.Radio(
            page_texts.ranks_of(sampler.pipe), value=own.rank, label="Best sample", info="Which sample to show first."
        )
        seed = gradio.Number(
            0,
            label="Seed",
            precision=0,
            elem_classes="seed",
            info="Starts the random numbers: the same number gives the same samples again, another one gives others.",
        )
    for setting in (model, size, n, temperature, rank, seed):
        setting.preprocess = _as_posted  # type: ignore[method-assign, assignment]
    return Inputs(given, looked, places, model, size, n, temperature, rank, seed, go, stop, said)


def _looked(painted: list[ModelInput]) -> gradio.Image | gradio.ImageEditor:
    """Return what shows the input; for a model with a mask or hints, with a brush to paint them.

    Arguments:
        painted: the model's inputs beside the image, at most one.
    """
    if not painted:
        return gradio.Image(label="Input", interactive=False, height=150, buttons=[], elem_classes="looked")
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
        elem_classes="editor",
    )


def _temperature(sampler: PageSampler) -> gradio.Textbox:
    """Return the field of a temperature. A list to choose from would take "0.7" for a typed 7."""
    hint, judged = (
        "0 to 1 is useful; higher values give more detail, and samples that differ more.",
        sampler.temperatures,
    )
    known = f" Samples can be judged only at {', '.join(f'{one:g}' for one in judged)}." if judged else ""
    best = sorted({f"{pipe.manifest.model.sampling.temperature:g}" for pipe in sampler.pipes.values()})
    return gradio.Textbox(
        label="Temperature",
        max_lines=1,
        placeholder=f"{AUTOMATIC}: {' or '.join(best)}",
        info=hint + known,
        elem_classes="temperature",
    )


def settings_of_visitor(inputs: Inputs, asked: Mapping[Any, Any]) -> Settings:
    """Return what a visitor has set.

    Raises:
        InputError: if a value that was typed is not a number.
    """
    n, temperature = asked[inputs.n], asked[inputs.temperature]
    model = asked[inputs.model]
    return Settings(
        n=None if n in NOTHING else _number("number of samples", n, int, least=1),
        temperature=None if temperature in NOTHING else _number("temperature", temperature, float),
        rank=asked[inputs.rank],
        seed=_number("seed", asked[inputs.seed], int),
        model=None if model == AUTOMATIC else model,
        size=_size(asked[inputs.size]) if inputs.size.visible else None,
    )


def _size(typed: Any) -> Size:
    """Return the size that was chosen, such as "×2", or the width that was typed.

    Raises:
        InputError: if it is neither.
    """
    text = str(typed).strip().lower()
    if text[:1] in ("×", "x"):
        return Size(scale=_number("factor", text[1:], float))
    return Size(width=_number("width in pixels", text.removesuffix("px").strip(), int))


def _number(name: str, typed: Any, kind: Callable[[Any], Number], least: int = 0) -> Number:
    """Return a number that was chosen or typed.

    Raises:
        InputError: if it is none, or below `least`.
    """
    try:
        number = kind(typed)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not number >= least or (kind is int and number != float(typed)):
        raise InputError(
            f"the {name} must be a {'whole ' * (kind is int)}number of at least {least}; got {shown(typed)}"
        )
    return number


def _as_posted(value: Any) -> Any:
    """Return a value unchanged: it is checked when it is used. Gradio's checks log a traceback for each wrong one."""
    return value
