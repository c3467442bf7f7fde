"""Blind comparison: the pictures of pairs, and the count of votes."""

from pathlib import Path

import numpy as np
import pytest
from blind_look import MAGNIFIED, count_votes, pair_of
from click.testing import CliRunner

KEY = """pair,degradation,photograph,left,right
01,blur3,a,caflow x4-real,real-esrgan x4plus
02,blur3,b,real-esrgan x4plus,caflow x4-real
03,noise5,c,caflow x4-real,real-esrgan x4plus
"""


def counted(folder: Path, *votes: str) -> str:
    """Count the votes of several people. Return what is printed, or the error."""
    (folder / "key.csv").write_text(KEY)
    files = []
    for number, lines in enumerate(votes):
        files.append(folder / f"votes-{number}.csv")
        files[-1].write_text(f"pair,vote\n{lines}")
    return CliRunner().invoke(count_votes, [str(folder / "key.csv"), *map(str, files)]).output.strip()


def test_votes_count_for_the_method_on_that_side(tmp_path: Path) -> None:
    lines = counted(tmp_path, "01,left\n02,Right\n03,equal\n", "01,right\n02,right\n03,\n").splitlines()
    assert lines[0].startswith("| degradation | caflow x4-real | real-esrgan x4plus | equal | preferred |")
    assert lines[2].startswith("| blur3 | 3 | 1 | 0 | 0.75 | 0.3006 | 0.9544 |")  # Wilson's interval of 3 in 4
    assert lines[3].startswith("| noise5 | 0 | 0 | 1 |  |")
    assert lines[4].startswith("| all | 3 | 1 | 1 | 0.75 |")


@pytest.mark.parametrize(
    ("votes", "error"),
    [
        ("01,left\n01,right\n", "each pair may have one line"),
        ("04,left\n", "got 04, left"),
        ("01,better\n", "got 01, better"),
        ("", "must have the columns pair, vote"),
    ],
)
def test_wrong_votes_are_refused(votes: str, error: str, tmp_path: Path) -> None:
    assert error in " ".join(counted(tmp_path, votes).split())


def test_a_picture_shows_the_results_on_their_sides_and_the_input_between_them() -> None:
    left, right = (np.full((16, 16, 3), value, np.uint8) for value in (10, 200))
    picture = pair_of(left, np.full((4, 4, 3), 90, np.uint8), right)
    side = 16 * MAGNIFIED
    assert picture.shape == (side, 3 * side, 3)
    assert (picture[:, :side] == 10).all()
    assert (picture[:, side : 2 * side] == 90).all()
    assert (picture[:, 2 * side :] == 200).all()
