"""Journal of a job: which lines count after damage, edits and changes, and what a job that resumes computes again."""

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from caflow_deploy.filtering import verdict_folder
from caflow_deploy.filtering.verdict_folder import SCORES, FilterJob, FilterSettings
from caflow_deploy.images.pairs import FilePair
from caflow_deploy.jobs.folder import PipelineSettings
from caflow_deploy.jobs.journal import Journal
from caflow_runtime.errors import InputError
from caflow_runtime.ood.verdict import Verdict

UNITS = 8


class Line(msgspec.Struct, frozen=True):
    unit: int
    value: float
    sha256: str = ""


def lines_of(kind: type[Any]) -> list[Any]:
    return [Line(k, k / 3) if kind is Line else {"unit": k, "value": k / 3} for k in range(UNITS)]


def unit_of(line: Any) -> int:
    return int(line["unit"] if isinstance(line, dict) else line.unit)


@pytest.fixture(params=[Line, dict])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal[Any]:
    journal = Journal(tmp_path / "lines.jsonl", request.param)
    assert (list(journal.lines()), journal.resume(unit_of), journal.path.exists()) == ([], {}, False)
    for line in lines_of(request.param):
        journal.append(line)
    return journal


def test_lines_that_count_are_kept_as_they_are(journal: Journal[Any]) -> None:
    before = journal.path.read_bytes()
    assert list(journal.resume(unit_of)) == list(range(UNITS))
    assert journal.path.read_bytes() == before
    assert list(journal.find(lambda line: unit_of(line) if unit_of(line) % 2 else None)) == [1, 3, 5, 7]
    assert journal.path.read_bytes() == before
    journal.resume(lambda line: unit_of(line) if unit_of(line) % 2 else None)
    assert journal.path.read_bytes() == b"".join(before.splitlines(keepends=True)[1::2])


@pytest.mark.parametrize("seed", range(20))
def test_damage_loses_no_other_line(journal: Journal[Any], seed: int) -> None:
    """Lines are cut, changed, doubled and exchanged. What remains is as it was written, each line once."""
    source, texts = random.Random(seed), journal.path.read_bytes().splitlines(keepends=True)
    damaged = list(texts)
    flipped, lost, doubled = source.sample(range(UNITS - 1), 3)
    place = source.randrange(len(texts[flipped]) - 1)
    damaged[flipped] = texts[flipped][:place] + bytes([texts[flipped][place] ^ 1]) + texts[flipped][place + 1 :]
    damaged[lost] = b""
    damaged.insert(source.randrange(UNITS), texts[doubled])
    source.shuffle(damaged)
    damaged.append(texts[-1][: source.randrange(1, len(texts[-1]))])
    journal.path.write_bytes(b"".join(damaged))
    assert set(journal.resume(unit_of)) == set(range(UNITS)) - {flipped, lost}
    assert sorted(journal.path.read_bytes().splitlines(keepends=True)) == sorted(
        text for number, text in enumerate(texts) if number not in (flipped, lost)
    )


def judged(batches: Sequence[Sequence[FilePair]]) -> list[list[Verdict]]:
    """Return verdicts whose numbers depend on the other pairs of the batch, as the last digits of likelihoods do."""
    sums = [float(sum(int(pair.target) * 7**k for k, pair in enumerate(batch))) for batch in batches]
    return [
        [Verdict(*pair, "accepted", log_likelihood=number) for pair in batch]
        for batch, number in zip(batches, sums, strict=True)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_batches_without_a_damaged_line_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Batches without a damaged line keep their lines, in any order, even if the list contains pairs several times."""
    monkeypatch.setattr(verdict_folder, "BATCH", 4)
    source = random.Random(seed)
    pairs = [FilePair(str(k % 5), "a") for k in range(source.randrange(1, 60))]
    settings = FilterSettings(PipelineSettings("0", None, "fp32", "cpu"), 0.1, 9, "1")
    job = FilterJob(tmp_path, pairs, settings)
    list(job.run(judged(job.left)))
    whole = (tmp_path / SCORES).read_bytes()
    batches = [whole.splitlines(keepends=True)[k : k + 4] for k in range(0, len(pairs), 4)]
    damaged = source.sample(range(len(batches)), source.randrange(len(batches)))
    for number in damaged:
        batches[number][source.randrange(len(batches[number]))] = json.dumps({"target": "0"}).encode() + b"\n"
    exchanged = batches[:-1]
    source.shuffle(exchanged)
    cut = batches[-1][: source.randrange(len(batches[-1]) + 1)]
    (tmp_path / SCORES).write_bytes(b"".join(line for batch in [*exchanged, cut] for line in batch))
    job = FilterJob(tmp_path, pairs, settings)
    assert len(job.left) <= len(damaged) + 1
    list(job.run(judged(job.left)))
    assert (tmp_path / SCORES).read_bytes() == whole
    assert not FilterJob(tmp_path, pairs, settings).left


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_journal_that_is_no_file_is_refused(journal: Journal[Any], make: Callable[[Path], None]) -> None:
    """Reading a pipe would wait for a writer forever."""
    journal.path.unlink(missing_ok=True)
    make(journal.path)
    with pytest.raises(InputError, match="must be a file; remove what has its name"):
        journal.find(unit_of)
