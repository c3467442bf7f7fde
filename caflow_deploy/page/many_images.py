"""Several images that a visitor uploads together: their best samples, and one file with all of them."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from caflow_deploy.page.page_records import Results, Settings
from caflow_deploy.page.page_sampler import PageSampler
from caflow_runtime.errors import InputError, NotFinite, UnreadableImage

ARCHIVE = "results.zip"


def draw_all(
    sampler: PageSampler,
    sources: Sequence[Path],
    settings: Settings,
    show: Callable[[int, int, int], None],
) -> tuple[list[Results], list[str]]:
    """Draw samples of all images that can be drawn. To be called within `sampler.visit`.

    Arguments:
        show: called with the index of the image, and the tiles that are done and all tiles of that image.

    Returns: results in the order of the images, and what is wrong with each image that has none.

    Raises:
        Closed, OSError: as `PageSampler.draw`.
        InputError: if no image has a result.
    """
    drawn, wrong = list[Results](), list[str]()
    for k, source in enumerate(sources):
        try:
            drawn.append(sampler.draw(source, settings, partial(show, k)))
        except (InputError, NotFinite, UnreadableImage) as error:
            why = error.why if isinstance(error, UnreadableImage) else error
            wrong.append(f"{source.name}: {why}")
    if not drawn:
        raise InputError("; ".join(wrong))
    return drawn, wrong


def archive_of(drawn: Sequence[Results]) -> Path:
    """Write the best samples of all images to a ZIP file, and return its path."""
    path = drawn[0].enlarged.with_name(ARCHIVE)
    names = set[str]()
    with ZipFile(path, "x", ZIP_STORED) as archive:  # PNG files are compressed already
        for results in drawn:
            numbered = (results.name if k == 1 else f"{results.name}-{k}" for k in count(1))
            names.add(name := next(name for name in numbered if name not in names))
            archive.write(results.samples[0].path, f"{name}.png")
    return path
