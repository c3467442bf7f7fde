"""Photographs from public git repositories: one crop of each, at a size where its details are sharp.

`git_photographs.tsv` lists them. Their originals are fetched by the hash of their contents, a git blob. The crops are
then made again, and compared with the listing.
"""

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from download import Missing, run
from numpy.typing import NDArray
from PIL import Image, ImageOps

LISTING = Path(__file__).with_name("git_photographs.tsv")
HOST = "https://github.com"
TOLERANCE = 1.0
"""Largest mean absolute difference between the fingerprint of a file and that of the listing, in grey levels of 255.
Other JPEG decoders, resampling filters or JPEG encoders change single pixels by a few levels, but the means of cells by
less than 0.5. A crop that begins 8 pixels further changes them by more than 1 in 97 % of the photographs, typically by
4."""
CELLS = 8
"""Number of rows and of columns of cells in a fingerprint."""


@dataclass(frozen=True)
class GitPhotograph:
    """Row of the listing."""

    kind: str
    """Set to which it belongs, such as `git-training`."""
    file: str
    """Name of the file that is made."""
    repository: str
    """Repository on GitHub, as OWNER/NAME."""
    commit: str
    """Commit at which the repository and its licence were read."""
    blob: str
    """Hash of the original file in the repository, now or in its history."""
    scaled: str
    """Width and height to which the original is reduced."""
    crop: str
    """Left and upper edge, width and height of the crop in the reduced photograph."""
    subject: str
    """What it shows most: people, text, food, animal, city, nature, indoor, vehicle, texture or other."""
    licence: str
    """Licence as the repository states it."""
    credit: str
    """Credit as the repository states it; may be empty."""
    group: str
    """Photographer if the credit names one, otherwise the repository or its collection. A group is in one set only."""
    fingerprint: str
    """Mean grey levels of 8×8 cells of the crop, as bytes in base64."""

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """Fingerprint as an array, (8, 8)."""
        levels = np.frombuffer(base64.b64decode(self.fingerprint), np.uint8)
        return levels.reshape(CELLS, CELLS).astype(np.float64)

    def is_in(self, path: Path) -> bool:
        """Return whether a file exists and shows this photograph, within `TOLERANCE`."""
        return path.exists() and float(np.abs(cell_means(path) - self.levels).mean()) <= TOLERANCE

    def make(self, original: bytes) -> bytes:
        """Return the crop of an original file as JPEG of quality 95 without chroma subsampling."""
        with Image.open(io.BytesIO(original)) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        scaled = cv2.resize(pixels, _numbers(self.scaled), interpolation=cv2.INTER_AREA)
        left, top, width, height = _numbers(self.crop)
        made = io.BytesIO()
        Image.fromarray(scaled[top : top + height, left : left + width]).save(
            made, "JPEG", quality=95, subsampling=0, optimize=True
        )
        return made.getvalue()


def all_listed() -> list[GitPhotograph]:
    """Return the photographs of all kinds. Those of one kind and one repository are in a row."""
    with LISTING.open(encoding="utf-8", newline="") as rows:
        return [GitPhotograph(**row) for row in csv.DictReader(rows, delimiter="\t")]


def fetch(photographs: Sequence[GitPhotograph], output: Path, held: Path | None = None, host: str = HOST) -> list[Path]:
    """Make the files of photographs in `output` and return their paths. Correct existing files are kept.

    Arguments:
        held: folder that contains the files already. They are copied instead of made.
        host: address to which the repositories' names are relative.

    Raises:
        Missing: if an original cannot be fetched, or a file differs from the listing.
    """
    output.mkdir(parents=True, exist_ok=True)
    wanted = [photograph for photograph in photographs if not photograph.is_in(output / photograph.file)]
    for photograph, contents in _copied(wanted, held) if held else _made(wanted, host):
        path = output / photograph.file
        path.write_bytes(contents)
        if not photograph.is_in(path):
            path.unlink()
            raise Missing(f"{photograph.file} does not show the photograph that {LISTING.name} lists")
    return [output / photograph.file for photograph in photographs]


def _copied(photographs: Sequence[GitPhotograph], held: Path) -> Iterator[tuple[GitPhotograph, bytes]]:
    for photograph in photographs:
        if not (held / photograph.file).exists():
            raise Missing(f"{photograph.file} is not in {held}")
        yield photograph, (held / photograph.file).read_bytes()


def _made(photographs: Sequence[GitPhotograph], host: str) -> Iterator[tuple[GitPhotograph, bytes]]:
    for repository, group in groupby(photographs, lambda photograph: photograph.repository):
        of_repository = list(group)
        with TemporaryDirectory() as name:
            folder = Path(name)
            run("git", "init", "--quiet", "--bare", cwd=folder)
            # Only the originals are fetched, as a partial clone does it: by their hashes, without any commit or tree.
            blobs = "".join(f"{photograph.blob}\n" for photograph in of_repository)
            options = ("--quiet", "--depth", "1", "--no-tags", "--no-write-fetch-head", "--stdin")
            run("git", "fetch", *options, f"{host}/{repository}", cwd=folder, given=blobs)
            for photograph in of_repository:
                yield photograph, photograph.make(run("git", "cat-file", "blob", photograph.blob, cwd=folder))


def cell_means(path: Path) -> NDArray[np.float64]:
    """Return the mean grey levels of 8×8 cells of an image file, (8, 8)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((CELLS, CELLS), Image.Resampling.BOX), np.float64)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))
