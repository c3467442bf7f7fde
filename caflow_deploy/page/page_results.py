"""What the page shows of an image: its samples as files, what is known of each, and maps. Needs no Gradio."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image import Image
from caflow_runtime.image_formats import claimed_size
from caflow_runtime.judge.consistency import enlarge_image
from caflow_runtime.pictures.alpha import Alpha, draw_alpha
from caflow_runtime.pictures.image_files import ImageFile, enlarge_alpha, read_image, write_image
from caflow_runtime.pictures.maps import pictures
from caflow_runtime.pictures.matte import matted
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Samples
from caflow_runtime.rows.draw import Draw, Rank
from caflow_runtime.rows.runner import ShowWindows

MOST_SAMPLES = 32
MOST_PIXELS = 2**25
"""Of all samples together: what bounds memory, at some 30 bytes each, and the time that others wait."""


@dataclass(frozen=True)
class Results:
    """Of one image. Files are lossless PNG, with the image's alpha where it has one."""

    enlarged: Path
    """The condition, enlarged bicubically to the samples' size."""
    samples: list[tuple[Path, str]]
    """The best first: the pixels that were drawn, and what is known of them."""
    likelihood: tuple[Image, str]
    """Map of the best, and what its darkest and brightest colours mean."""
    uncertainty: tuple[Image, str] | None
    """The same over all samples, where there is more than one."""


class Closed(CaflowError):
    """No more is drawn."""


class PageSampler:
    """Draws samples for the page: of one image after the other, whoever asks, until it is closed.

    Arguments:
        folder: where results are written.
    """

    def __init__(self, pipe: Pipeline, folder: Path) -> None:
        self.pipe = pipe
        self.folder = folder
        self._drawing = Lock()
        self._is_closed = False

    def read(self, source: Path) -> ImageFile:
        """An image file that is small enough.

        Raises:
            UnreadableImage: if it is none.
            OSError: if it cannot be read.
            InputError: if one sample of it would have too many pixels.
        """
        claimed = claimed_size(source.read_bytes())
        if claimed is not None:
            self._check_size(claimed.height, claimed.width, 1)
        return read_image(source)

    def write(self, given: ImageFile) -> Path:
        """The file as it was read, as PNG."""
        path = self._new_folder() / "condition.png"
        write_image(path, given.rgb, given.alpha, given.is_grey, given.metadata.colours())
        return path

    def draw(self, source: Path, n: int, temperature: float, rank: Rank, seed: int, show: ShowWindows) -> Results:
        """Draw `n` samples of the image in a file.

        Arguments:
            temperature, rank, seed, show: as in `Pipeline.sample`.

        Raises:
            UnreadableImage, InputError, NotFinite, Closed
            OSError: if the results cannot be written.
        """

        def show_unless_closed(done: int, count: int) -> None:
            self._check_open()
            show(done, count)

        given = self.read(source)
        height, width = given.rgb.shape[:2]
        self._check_size(height, width, n)
        with self._drawing:
            self._check_open()
            drawn = self.pipe.sample(given.rgb, n, temperature, seed, rank=rank, show=show_unless_closed)
            drawn_alpha = (
                None if given.alpha is None else draw_alpha(self.pipe, given.alpha, Draw(1, temperature, seed))
            )
            return self._results(source.stem, given, drawn, drawn_alpha)

    def close(self) -> None:
        """End what is being drawn, at its next tile, and wait until it has: Python must not end before ONNX Runtime."""
        self._is_closed = True
        with self._drawing:
            pass

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("the page is being closed")

    def _check_size(self, height: int, width: int, n: int) -> None:
        """Whether `n` samples of a condition are few enough.

        Raises:
            InputError
        """
        height, width = (self.pipe.manifest.model.scale * side for side in (height, width))
        fitting = min(MOST_SAMPLES, MOST_PIXELS // max(1, height * width))
        if not fitting:
            raise InputError(
                f"wanted an image whose result has at most {MOST_PIXELS / 1e6:.0f} million pixels, this one's has "
                f"{width}×{height}: crop or reduce it, or use caflow image, which reads larger ones"
            )
        if n > fitting:
            raise InputError(
                f"wanted at most {fitting} samples of {width}×{height} pixels, got {n}: ask for fewer, or reduce the "
                "image"
            )

    def _results(self, name: str, given: ImageFile, drawn: Samples, drawn_alpha: Alpha | None) -> Results:
        enlarged = enlarge_image(given.rgb, self.pipe.manifest.model.scale)
        alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *enlarged.shape[:2])
        folder = self._new_folder()
        write_image(folder / "enlarged.png", enlarged, alpha, metadata=given.metadata.colours())
        samples = [(folder / f"{name}-{k + 1}.png", _caption(drawn, k)) for k in range(len(drawn.images[0]))]
        best = drawn.images[0][0] if drawn_alpha is None else matted(drawn.images[0][0], drawn_alpha)  # as it is read
        samples[0] = (samples[0][0], samples[0][1] + self._judged(best, given.rgb))
        for (path, _), picture in zip(samples, drawn.images[0], strict=True):
            write_image(path, picture, drawn_alpha, metadata=given.metadata.colours())
        maps = {kind: (picture, darkest, brightest) for kind, picture, darkest, brightest in pictures(drawn)}
        return Results(
            enlarged=folder / "enlarged.png",
            samples=samples,
            likelihood=_with_range(*maps["likelihood"], "bits/dim"),
            uncertainty=_with_range(*maps["uncertainty"], "of 255") if "uncertainty" in maps else None,
        )

    def _judged(self, image: Image, condition: Image) -> str:
        """How usual the best is as an image: what `caflow filter` says of its file."""
        typical = self.pipe.score(image, condition).image_typicality
        return f"\nimage typicality {typical.value[0]:.2f}" if typical and typical.is_judged[0] else ""

    def _new_folder(self) -> Path:
        return Path(mkdtemp(dir=self.folder))


def _caption(drawn: Samples, k: int) -> str:
    known = f"{'best: ' if k == 0 else ''}{drawn.bits_per_dim[0, k]:.3f} bits/dim"
    typical = drawn.sample_typicality
    if typical is None or not typical.is_judged[0, k]:
        return known
    return f"{known}\nsample typicality {typical.value[0, k]:.2f}"


def _with_range(picture: Image, darkest: float, brightest: float, unit: str) -> tuple[Image, str]:
    return picture, f"dark: {darkest:.1f}, bright: {brightest:.1f} {unit}"
