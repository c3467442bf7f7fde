"""Results that the page shows for an image: samples as files, their captions, and maps. Does not require Gradio."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image import Image
from caflow_runtime.image_formats import claimed_size
from caflow_runtime.judge.consistency import enlarge_image
from caflow_runtime.pictures.alpha import Alpha, draw_alpha, enlarge_alpha
from caflow_runtime.pictures.image_files import ImageFile, read_image, write_image
from caflow_runtime.pictures.maps import pictures
from caflow_runtime.pictures.matte import matted
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Samples
from caflow_runtime.rows.draw import Draw, Rank
from caflow_runtime.rows.runner import ShowWindows

MOST_SAMPLES = 32
MOST_PIXELS = 2**25
"""Largest number of pixels of all samples together. It bounds the memory, about 30 bytes per pixel, and the time that
other visitors wait."""


@dataclass(frozen=True)
class Results:
    """Results for one image. Files are lossless PNG, with the alpha channel of the image if it has one."""

    enlarged: Path
    """The condition, bicubically enlarged to the size of the samples."""
    samples: list[tuple[Path, str]]
    """File and caption of each sample, the best first."""
    likelihood: tuple[Image, str]
    """Likelihood map of the best sample, and the values of its darkest and brightest colours."""
    uncertainty: tuple[Image, str] | None
    """Uncertainty map of all samples, with the same values; None if there is only one sample."""


class Closed(CaflowError):
    """The page is being closed, so no more samples are drawn."""


class PageSampler:
    """Sampler of the page. It draws for one visitor at a time, until it is closed.

    Arguments:
        folder: folder that results are written to.
    """

    def __init__(self, pipe: Pipeline, folder: Path) -> None:
        self.pipe = pipe
        self.folder = folder
        self._drawing = Lock()
        self._is_closed = False

    def read(self, source: Path) -> ImageFile:
        """Read an image file. Its claimed size is checked before it is decoded.

        Raises:
            UnreadableImage: if the file is not a readable image.
            OSError: if the file cannot be read.
            InputError: if a single sample would have too many pixels.
        """
        claimed = claimed_size(source.read_bytes())
        if claimed is not None:
            self._check_size(claimed.height, claimed.width, 1)
        return read_image(source)

    def write(self, given: ImageFile) -> Path:
        """Write an image as it was read to a PNG file, and return its path."""
        path = self._new_folder() / "condition.png"
        write_image(path, given.rgb, given.alpha, given.is_grey, given.metadata.colours())
        return path

    def draw(self, source: Path, n: int, temperature: float, rank: Rank, seed: int, show: ShowWindows) -> Results:
        """Draw `n` samples of the image in a file.

        Arguments:
            temperature, rank, seed, show: as in `Pipeline.sample`.

        Raises:
            UnreadableImage: if the file is not a readable image.
            InputError: if the samples would have too many pixels, or a setting is out of range.
            NotFinite: if any sample is not finite.
            Closed: if the page is closed meanwhile.
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
        """Stop drawing at the next tile and wait for that, because Python must not exit while ONNX Runtime runs."""
        self._is_closed = True
        with self._drawing:
            pass

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("the server is shutting down")

    def _check_size(self, height: int, width: int, n: int) -> None:
        """Check that `n` samples of a condition do not have too many pixels.

        Raises:
            InputError: if they have.
        """
        height, width = (self.pipe.manifest.model.scale * side for side in (height, width))
        fitting = min(MOST_SAMPLES, MOST_PIXELS // max(1, height * width))
        if not fitting:
            raise InputError(
                f"the image is too large: its result would have {width}×{height} pixels, and the limit of this page is "
                f"{MOST_PIXELS / 1e6:.0f} million; crop or reduce the image, or use the command caflow image"
            )
        if n > fitting:
            raise InputError(
                f"the number of samples must be at most {fitting} for results of {width}×{height} pixels; got {n}. "
                "Request fewer samples, or reduce the image"
            )

    def _results(self, name: str, given: ImageFile, drawn: Samples, drawn_alpha: Alpha | None) -> Results:
        enlarged = enlarge_image(given.rgb, self.pipe.manifest.model.scale)
        alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *enlarged.shape[:2])
        folder = self._new_folder()
        write_image(folder / "enlarged.png", enlarged, alpha, metadata=given.metadata.colours())
        samples = [(folder / f"{name}-{k + 1}.png", _caption(drawn, k)) for k in range(len(drawn.images[0]))]
        # Score the pixels that the file has when it is read again.
        best = drawn.images[0][0] if drawn_alpha is None else matted(drawn.images[0][0], drawn_alpha)
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
        """Return a caption line with the image typicality of the best sample, as `caflow filter` computes it."""
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
