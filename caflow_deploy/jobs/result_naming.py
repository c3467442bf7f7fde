"""Names, formats and quality of the files that results of images are written to."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from caflow_deploy.images.image_formats import SUFFIXES

SOURCE = "source"
"""Value of `ResultFiles.format`: each result has the format of its source."""
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tiff", "bmp": ".bmp"}
SAME = {".jpeg": ".jpg", ".tif": ".tiff"}
"""Alternative suffixes of these formats."""


@dataclass(frozen=True)
class ResultFiles:
    """Options for naming and writing results."""

    format: str = SOURCE
    """Format of results in a folder: one of `FORMATS`; or `SOURCE`, the format of each source."""
    quality: int | None = None
    """Quality of JPEG and WebP files, as in `write_image`."""
    suffix: str = ""
    """Text that is added to names in a folder, before the file suffix."""
    no_metadata: bool = False
    """Whether to copy only the colour profile, and no other metadata."""

    def ending(self, source: Path) -> str:
        """Return the file suffix of a source's result. Sources whose format cannot be written become PNG files."""
        if self.format != SOURCE:
            return FORMATS[self.format]
        return source.suffix if source.suffix.lower() in SUFFIXES else FORMATS["png"]

    def is_native(self, source: Path) -> bool:
        """Return whether the result has the format of its source."""
        own, wanted = (SAME.get(suffix.lower(), suffix.lower()) for suffix in (source.suffix, self.ending(source)))
        return own == wanted

    def names(self, source: Path, name: Path) -> Iterator[Path]:
        """Yield names for a result, in order of preference and without end.

        The first is the name of the source. The next ones add the suffix of the source, if it differs from the
        result's; then the name of the source's folder; then numbers from 2.

        Arguments:
            name: path of the source relative to the input folder.
        """
        kind = [] if self.is_native(source) else [f"{name.stem}-{source.suffix[1:].lower()}"]
        stems = [name.stem, *kind, f"{name.stem}-{source.absolute().parent.name}"]
        numbered = (f"{stems[1]}-{k}" for k in count(2))
        return (name.with_name(f"{stem}{self.suffix}{self.ending(source)}") for stem in chain(stems, numbered))


DEFAULT = ResultFiles()
