"""`caflow filter`: lists of pairs in files, folders and globs, and errors for wrong ones."""

import csv
import json
import re
from pathlib import Path

import pytest
from commands import caflow
from filter_data import ALPHA, data, write_list

from caflow_runtime.errors import InputError
from caflow_runtime.jobs.pairs import FilePair, list_pairs

__all__ = ["data"]  # a fixture


def test_pairs_are_read_from_json_lines_csv_and_folders(data: Path, tmp_path: Path) -> None:
    pairs = list_pairs(data)
    assert [Path(pair.target).name for pair in pairs] == [f"{k:02}.png" for k in range(13)]
    assert all(Path(target).name == Path(condition).name for target, condition in pairs)
    relative = [FilePair(f"B/{k:02}.png", f"A/{k:02}.png") for k in range(13)]
    for suffix in (".jsonl", ".NDJSON"):
        assert list_pairs(write_list(data / f"pairs{suffix}", relative, more=1)) == pairs
    (tmp_path / "absolute.jsonl").write_text("\n\n".join(json.dumps(pair._asdict()) for pair in pairs))
    assert list_pairs(tmp_path / "absolute.jsonl") == pairs
    with (data / "pairs.csv").open("w", encoding="utf-8-sig", newline="") as file:  # with a BOM, as in spreadsheets
        writer = csv.DictWriter(file, ["more", "condition", "target"])
        writer.writeheader()
        writer.writerows({**pair._asdict(), "more": "a, b"} for pair in relative)
    assert list_pairs(data / "pairs.csv") == pairs


def test_folders_pair_by_name(data: Path, tmp_path: Path) -> None:
    """Files are paired by name, or else by name without suffix.

    A file without a partner is listed with the missing path, so that it becomes an error instead of being skipped.
    """
    picture = (data / "B" / "01.png").read_bytes()
    for name in ("A/below/one.png", "A/two.jpg", "A/two.tif", "B/below/one.jpg", "B/two.tif", "B/three.png", "B/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    assert list_pairs(tmp_path) == [
        (str(tmp_path / "B" / target), str(tmp_path / "A" / condition))
        for target, condition in (
            ("below/one.jpg", "below/one.png"),
            ("three.png",) * 2,
            ("two.tif",) * 2,
            ("two.jpg",) * 2,
        )
    ]
    (tmp_path / "B" / "two.tif").rename(tmp_path / "B" / "two.bmp")
    with pytest.raises(InputError, match=r"two.bmp: expected one condition in .*; found two.jpg and two.tif"):
        list_pairs(tmp_path)


BROKEN: dict[str, tuple[bytes, str]] = {
    "wrong.csv": (b"target,input\na,b\n", "line 1: expected the columns target and condition"),
    "twice.csv": (b"target,condition,target\na,b,c\n", "line 1: the column target occurs twice"),
    "semicolons.csv": (b"target;condition\na;b\n", "target is missing; got 'target;condition'"),
    "short.csv": (b"target,condition\na,b\n\nc\n", "line 4: expected 2 values"),
    "long.csv": (b"target,condition\na,b\nc,d,e\n", "line 3: expected 2 values"),
    "quotes.csv": (b'target,condition\na,b\nc,"d\n', "line 3: unexpected end of data"),
    "blank.csv": (b"target,condition\na,b\n,d\n", "line 3: expected the paths"),
    "none.csv": (b"target,condition\n", "found none"),
    "nothing.csv": (b"", "target is missing; got nothing"),
    "wrong.jsonl": (b'{"target": "a", "condition": "b"}\n\n{"target": "a"}\n', "line 3: expected"),
    "number.jsonl": (b'{"target": "a", "condition": 1}\n', "line 1: expected"),
    "cut.jsonl": (b'{"target": "a", "condition": "b"}\n{"targ', "line 2: expected"),
    "null.jsonl": (b'{"target": "a\\u0000", "condition": "b"}\n', "line 1: expected the paths"),
    "none.ndjson": (b"\n", "found none"),
    "latin.csv": (b"target,condition\na,b\n\xe9,d\n", "line 3: expected UTF-8 text"),
    "list.txt": (b"a b\n", "expected a list of pairs"),
}
WRONG_ARGUMENTS = [
    (["."], "expected a folder with the subfolders A"),
    (["nowhere.csv"], "this path does not exist"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [*(([name], f"{name}.*{re.escape(text)}") for name, (_, text) in BROKEN.items()), *WRONG_ARGUMENTS],
)
def test_wrong_lists_are_refused_in_one_line(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (text, _) in BROKEN.items():
        Path(name).write_bytes(text)
    done = caflow("filter", *arguments, "-o", "out", "--bundle", calibrated, "--alpha", ALPHA, code=2)
    assert re.search(message, done.stderr)
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert not Path("out").exists()
