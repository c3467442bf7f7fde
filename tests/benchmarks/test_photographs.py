"""Photographs: none is used for both training and evaluation; those of git repositories are credited and made again."""

import base64
import io
import re
import subprocess
import tomllib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from credits import PAGE, credits_page
from download import Missing
from git_photographs import GitPhotograph, all_listed, cell_means, fetch
from photographs import LISTING, PACKAGED, local_name
from PIL import Image

PACKAGES = tomllib.loads(LISTING.read_text())


def test_no_file_is_in_two_sets_or_takes_the_place_of_another() -> None:
    assert sorted(PACKAGES) == sorted(PACKAGED)  # every set can be fetched
    digests = [digest for packages in PACKAGES.values() for one in packages for digest in one["files"].values()]
    assert len(set(digests)) == len(digests)
    for kind, packages in PACKAGES.items():
        names = Counter(local_name(package, name) for package in packages for name in package["files"])
        assert [name for name, count in names.items() if count > 1] == [], kind


def test_the_last_evaluation_has_enough_photographs_of_packages_in_no_other_set() -> None:
    assert sum(len(package["files"]) for package in PACKAGES["last"]) >= 90
    names = {kind: {(one["source"], one["package"].lower()) for one in rows} for kind, rows in PACKAGES.items()}
    last = names.pop("last")
    assert len(last) >= 25
    assert all(last.isdisjoint(others) for others in names.values())


LISTED = all_listed()


def test_each_photographer_and_each_original_is_in_one_set() -> None:
    kinds: dict[str, set[str]] = defaultdict(set)
    for photograph in LISTED:
        kinds[photograph.group].add(photograph.kind)
    assert [group for group, found in kinds.items() if len(found) > 1] == []
    for names in ([photograph.blob for photograph in LISTED], [photograph.file for photograph in LISTED]):
        assert len(set(names)) == len(LISTED)


def test_share_alike_photographs_are_only_tested_with() -> None:
    share_alike = re.compile(r"\bSA\b|share.?alike", re.IGNORECASE)
    found = [row for row in LISTED if share_alike.search(row.licence) or "ShareAlike" in row.credit]
    assert {photograph.kind for photograph in found} == {"git-test"}


def test_every_photograph_is_credited() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == credits_page(LISTED), "run: python models/credits.py"
    plain = page.replace("\\", "")
    for photograph in LISTED:
        assert f"## {photograph.repository}\n" in page
        assert f"{photograph.credit or 'no credit stated'} ({photograph.licence})" in plain


@pytest.fixture
def original() -> bytes:
    """A photograph of random hills, as PNG."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def listed(original: bytes, tmp_path: Path) -> GitPhotograph:
    """Row of the listing for a photograph whose original is in the history of the repository `OWNER/NAME`."""
    repository = tmp_path / "host" / "OWNER" / "NAME"
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet")
    for key, value in (("user.name", "a"), ("user.email", "a@example.org"), ("uploadpack.allowAnySHA1InWant", "true")):
        git(repository, "config", key, value)
    (repository / "hills.png").write_bytes(original)
    git(repository, "add", "hills.png")
    git(repository, "commit", "--quiet", "-m", "hills")
    blob = git(repository, "rev-parse", "HEAD:hills.png")
    git(repository, "rm", "--quiet", "hills.png")
    git(repository, "commit", "--quiet", "-m", "no hills")
    row = GitPhotograph(
        *("git-training", "NAME+1.jpg", "OWNER/NAME", git(repository, "rev-parse", "HEAD"), blob),
        *("160 120", "16 8 96 80", "nature", "CC0-1.0", "", "OWNER/NAME", ""),
    )
    made = tmp_path / "made.jpg"
    made.write_bytes(row.make(original))
    return replace(row, fingerprint=base64.b64encode(cell_means(made).astype(np.uint8).tobytes()).decode())


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_file_is_made_from_an_original_in_the_history(listed: GitPhotograph, original: bytes, tmp_path: Path) -> None:
    (made,) = fetch([listed], tmp_path / "out", host=f"file://{tmp_path}/host")
    assert made == tmp_path / "out" / "NAME+1.jpg"
    pixels = np.asarray(Image.open(io.BytesIO(original)), np.float64)
    halved = pixels.reshape(120, 2, 160, 2, 3).mean((1, 3))[8:88, 16:112]
    assert np.abs(np.asarray(Image.open(made)) - halved).mean() < 2
    before = made.stat().st_mtime_ns
    fetch([listed], tmp_path / "out", host="file:///nowhere")
    assert made.stat().st_mtime_ns == before


def test_a_file_may_differ_as_other_decoders_do_but_no_more(
    listed: GitPhotograph, original: bytes, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    with pytest.raises(Missing, match=r"NAME\+1.jpg is not in"):
        fetch([listed], tmp_path / "out", held)
    again = Image.open(io.BytesIO(listed.make(original)))
    again.save(held / listed.file, quality=80)
    (copied,) = fetch([listed], tmp_path / "out", held)
    assert copied.read_bytes() == (held / listed.file).read_bytes()
    copied.unlink()
    (held / listed.file).write_bytes(replace(listed, crop="24 8 96 80").make(original))
    with pytest.raises(Missing, match="does not show the photograph"):
        fetch([listed], tmp_path / "out", held)
    assert not copied.exists()


def test_an_original_that_is_not_in_its_repository_is_missing(listed: GitPhotograph, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="git fetch failed"):
        fetch([replace(listed, blob="0" * 39 + "1")], tmp_path / "out", host=f"file://{tmp_path}/host")
