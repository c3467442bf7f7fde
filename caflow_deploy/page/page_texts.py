"""Texts of the page that depend on the model or on a sample. Does not require Gradio."""

from collections.abc import Iterable, Sequence
from html import escape

from caflow_deploy.images.input_files import FILLED_SMOOTHLY
from caflow_deploy.page.judged_sample import JudgedSample, can_be_inconsistent
from caflow_deploy.page.page_records import Plan, Results
from caflow_deploy.page.page_sampler import PageSampler
from caflow_runtime.bundle.builtin import DEFAULT_FOR_DEGRADED
from caflow_runtime.bundle.manifest import ModelInput
from caflow_runtime.completion.filling import has_patches
from caflow_runtime.ood.calibration import read_calibration
from caflow_runtime.pipeline.estimates import duration
from caflow_runtime.pipeline.pipeline import Pipeline

RANKS = {
    "likelihood": "the most likely",
    "consistency": "closest to the input",
    "typical": "the most usual",
}
TITLE = "Enlarge, repair and colour photographs"
ABOUT = (
    "A model draws possible results, called samples, and computes how likely each is. Your images are not sent to any "
    "other server."
)
MAPS = """
* **Likelihood map**: bright where the best sample is unlikely for the model, as in fine detail or at a fault.
* **Uncertainty map**: bright where the samples differ, because the input does not say how it should look there.
"""
OTHER_MODEL = "If your image is noisy, or was compressed at any time, choose the model x4-real above."
TABS = {"super-resolution": "Enlarge", "masked-inpainting": "Remove", "color-hints": "Colour"}
"""Names of the tabs, by the task of their models."""
PAINTING = {
    "mask": "**Paint over all that is to be removed**, up to its edges: only what you paint over is drawn again. "
    "Begin each stroke inside the image.",
    "hints": "**Paint dots of colour** where you know the colour. Few are enough; their brightness does not matter. "
    "Without hints, the result is a careful tint.",
}
"""What a visitor paints over an image, by the name of the model's input."""
FONTS = ["system-ui", "sans-serif"]
MONOSPACED = ["ui-monospace", "monospace"]
"""Fonts of the visitor's machine. Gradio's own fonts would be fetched from another server."""
CSS = """
.gradio-container { max-width: 1280px }
.given { height: 8.5rem }
.looked, .places, .slider, .map { padding-top: 2rem }
.looked img { image-rendering: pixelated }
.gallery .grid-wrap { min-height: 0; max-height: none }
.gallery .grid-container { padding-top: 2rem; grid-template-columns: repeat(auto-fill, minmax(max(7rem, 20%), 1fr)) }
.gallery .thumbnail-item { aspect-ratio: auto; display: flex; flex-direction: column }
.gallery .caption-label { position: static; max-width: none; border: 0 }
.slider { scroll-margin: 1rem }
.slider .wrap:has(> .error) { display: none }
@media (max-width: 800px) { .columns:has(.slider img):not(:has(.editor)) .results { order: -1 } }
.editor [aria-label="Clear canvas"] { display: none }
.verdict { font-size: 1.2rem; font-weight: 600 }
.verdict:not(.unjudged)::before { content: "●"; margin-right: 0.5rem }
.verdict.unjudged { font-size: inherit; font-weight: inherit }
.settings, .said { color: var(--block-info-text-color) }
.wrong { color: #c03028 }
.usual::before { color: #2e9e4f } .unusual::before { color: #e07b00 }
"""
"""Gradio's button that empties the editor is hidden, because it removes the photograph, too. The "Error" that Gradio
would lay over an earlier result is hidden, because the message says what is wrong. On a
narrow screen, results come before the settings as soon as there are some, unless the visitor paints."""
DISMISS_ERRORS = "() => document.querySelectorAll('[data-testid=toast-close]').forEach(button => button.click())"
"""JavaScript that closes the error messages of earlier actions."""
SHOW_RESULTS = """
() => {
  const waiting = setInterval(() => {
    const image = [...document.querySelectorAll('.slider img')].find(one => one.offsetParent)
    if (image?.complete) {
      clearInterval(waiting)
      image.closest('.slider').scrollIntoView({ block: 'nearest' })
    }
  }, 50)
}
"""
"""JavaScript that scrolls to the results as soon as they are loaded, if they are out of sight."""


def painting_of(port: ModelInput) -> str:
    """Return what a visitor paints for an input of the model, and a warning if a package is missing for it."""
    is_smooth = port.preparation == "fill" and not has_patches()
    return PAINTING[port.name] + (f" Note that {FILLED_SMOOTHLY}." if is_smooth else "")


def title_of(pipe: Pipeline) -> str:
    """Return what a page with a single model does."""
    return f"{pipe.manifest.model.description} — model {pipe.folder.stem}"


def other_model(sampler: PageSampler, model: str) -> str:
    """Return a sentence about the model for damaged images; empty if it is not offered, or if this is the model."""
    return OTHER_MODEL if DEFAULT_FOR_DEGRADED in sampler.pipes and model != DEFAULT_FOR_DEGRADED else ""


def ranks_of(pipe: Pipeline) -> list[tuple[str, str]]:
    """Return the labels and values of the ranks that the model supports."""
    impossible = set() if can_be_inconsistent(pipe) else {"consistency"}
    if read_calibration(pipe.folder) is None:
        impossible.add("typical")
    return [(text, rank) for rank, text in RANKS.items() if rank not in impossible]


def caption_of(sample: JudgedSample, name: str) -> str:
    """Return the short caption of a sample in the gallery."""
    return name + (": unusual" if sample.verdict == "unusual" else "")


def expectation_of(plans: Sequence[Plan], seconds: float) -> str:
    """Return what will be drawn, by which model, and how long it takes, as Markdown."""
    time = f"about {duration(seconds)}"
    if len(plans) > 1:
        return f"{len(plans)} images: {time}."
    (plan,) = plans
    n = plan.options.number
    because = f", because {plan.because}" if plan.because else ""
    return f"{n} sample{'s' if n > 1 else ''} by {plan.pipe.folder.stem}{because}: {time}."


def settings_of(results: Results, k: int = 0) -> str:
    """Return the settings with which sample k, in order of rank, was drawn, in words."""
    options, n, because = results.plan.options, len(results.samples), results.plan.because
    by = f"by {results.model}, because {because}, " if because else ""
    ranked = f"best of {n}: {RANKS[options.rank]}" if options.rank and not k else f"sample {k + 1} of {n}"
    which = f"; {ranked}" if n > 1 else ""
    size = results.plan.form.size
    drawn = f"{size.width}×{size.height} pixels, drawn {by}with temperature {options.temperature:g}"
    return f"{drawn}, seed {options.seed}{which}."


def verdict_of(sample: JudgedSample, samples: list[JudgedSample], settings: str, other_model: str) -> str:
    """Return the verdict on a sample, what to do, and the settings with which it was drawn, as HTML."""
    advice = escape(sample.advice(samples, other_model))
    verdict = f'<p class="verdict {sample.verdict}">{escape(sample.message)}</p><p>{advice}</p>'
    return f'{verdict}<p class="settings">{settings}</p>'


def problems_of(wrong: Iterable[str]) -> str:
    """Return what is wrong with images, as HTML; empty if nothing is."""
    return "".join(f'<p class="wrong">{escape(one)}</p>' for one in wrong)
