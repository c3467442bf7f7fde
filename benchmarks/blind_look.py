"""Blind comparison of a bundle with a peer, by people who look at pairs of results.

`pairs` writes one picture for each pair: a result, the condition enlarged, and the other result. Chance decides which
is on the left. The key, which says it, belongs into another folder, out of sight of those who vote. `votes` reads their
votes and the key.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from degradations import DEGRADATIONS, degraded
from metrics import Picture, held_out_crops, resize
from peers import PEERS, Upscale, installed
from PIL import Image
from scipy.stats import binomtest

from caflow_runtime.pipeline.pipeline import Pipeline, load

OUT, KEY = Path("build/blind-look"), Path("build/blind-look-key.csv")
VOTES = ("left", "right", "equal")
DEGRADED = [name for name in DEGRADATIONS if name != "clean"]
MAGNIFIED = 2
Shown = tuple[str, str, Picture]
"""Degradation, name and condition of a pair."""


def read_lines(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a CSV file that has these columns."""
    with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets write a byte order mark
        found = list(csv.DictReader(lines))
    if not found or not set(columns) <= set(found[0]):
        raise click.UsageError(f"{file} must have the columns {', '.join(columns)} and at least one line below them")
    return found


def write_lines(file: Path, lines: list[dict[str, str]]) -> None:
    """Write lines that have the same columns to a CSV file."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def sampled(pipe: Pipeline) -> Upscale:
    """Return a function that draws one sample, with seed 0 and the bundle's temperature."""
    return lambda small: np.asarray(pipe.best_of(small, n=1, seed=0).images[0])


def pair_of(left: Picture, condition: Picture, right: Picture) -> Picture:
    """Return two results and, between them, the condition enlarged by the bicubic filter, all magnified."""
    shown = np.concatenate([left, resize(condition, left.shape[:2]), right], axis=1)
    return np.asarray(shown.repeat(MAGNIFIED, 0).repeat(MAGNIFIED, 1))


def voted(files: Iterable[Path], key: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the degradation of each vote, and the method that was preferred, or "equal"."""
    for file in files:
        lines = read_lines(file, ("pair", "vote"))
        if len({line["pair"] for line in lines}) < len(lines):
            raise click.UsageError(f"{file}: each pair may have one line; some have more")
        for line in lines:
            pair, vote = line["pair"], line["vote"].strip().lower()
            if pair not in key or vote not in ("", *VOTES):
                raise click.UsageError(f"{file}: expected a pair of the key and {', '.join(VOTES)}; got {pair}, {vote}")
            if vote:
                yield key[pair]["degradation"], key[pair].get(vote, vote)


def preference(degradation: str, votes: Counter[str], methods: list[str]) -> dict[str, Any]:
    """Return the votes for each method, and how often the first is preferred, with a Wilson interval of 95 %.

    Pairs that look equal count in neither direction.
    """
    ours, others = (votes[method] for method in methods)
    row: dict[str, Any] = {"degradation": degradation, **{name: votes[name] for name in (*methods, "equal")}}
    if not ours + others:
        return row | {"preferred": None, "from": None, "to": None}
    found = binomtest(ours, ours + others)
    low, high = found.proportion_ci(0.95, method="wilson")
    return row | {"preferred": found.statistic, "from": float(low), "to": float(high)}


def write_all(shown: list[Shown], methods: dict[str, Upscale], random: np.random.Generator) -> None:
    """Write the pictures of all pairs, an empty list of votes, and the key."""
    OUT.mkdir(parents=True, exist_ok=True)
    lines = list[dict[str, str]]()
    for number, (degradation, name, condition) in enumerate(shown, start=1):
        left, right = random.permutation(list(methods)).tolist()
        pair = {"pair": f"{number:02}", "degradation": degradation, "photograph": name, "left": left, "right": right}
        page = pair_of(methods[left](condition), condition, methods[right](condition))
        Image.fromarray(page).save(OUT / f"{pair['pair']}.png")
        lines.append(pair)
    write_lines(OUT / "votes.csv", [{"pair": line["pair"], "vote": ""} for line in lines])
    write_lines(KEY, lines)


@click.command("pairs")
@report.BUNDLE
@click.option("--peer", type=click.Choice(list(PEERS)), default="real-esrgan x4plus", show_default=True)
@click.option("--pairs", default=40, show_default=True, help="Number of pairs, spread evenly over the degradations.")
@click.option("--seed", default=0, show_default=True, help="Seed that chooses the photographs and the sides.")
@click.option("--threads", default=1, show_default=True, help="Number of CPU threads.")
def write_pairs(bundle: Path, peer: str, pairs: int, seed: int, threads: int) -> None:
    """Write NN.png for each pair and votes.csv to build/blind-look, and the key to build/blind-look-key.csv."""
    random, shown = np.random.default_rng(seed), list[Shown]()
    with load(bundle, "cpu", threads) as pipe:
        scale = pipe.manifest.model.scale
        given = held_out_crops(scale)
        methods = {f"caflow {bundle.stem}": sampled(pipe), **dict(installed([peer], scale))}
        if peer not in methods:
            raise click.UsageError(f"{peer} cannot run here: benchmarks/README.md says how to install it")
        for number, place in enumerate(random.permutation(len(given))[:pairs]):
            name = DEGRADED[number % len(DEGRADED)]
            crop = degraded(given[place], name)
            shown.append((name, crop.name, crop.condition))
        write_all(shown, methods, random)


@click.command("votes")
@click.argument("key", type=click.Path(path_type=Path, exists=True))
@click.argument("votes", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures to this file.")
def count_votes(key: Path, votes: tuple[Path, ...], json_file: Path | None) -> None:
    """Count the VOTES of one or more people with the KEY: how often the bundle is preferred, for each degradation.

    A file of votes has the columns pair and vote; a vote is left, right or equal, or empty for a pair without vote.
    """
    of_key = {line["pair"]: line for line in read_lines(key, ("pair", "degradation", *VOTES[:2]))}
    methods = sorted(
        {line[side] for line in of_key.values() for side in VOTES[:2]}, key=lambda name: (name in PEERS, name)
    )
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for degradation, preferred in voted(votes, of_key):
        counted[degradation][preferred] += 1
    rows = [preference(name, of, methods) for name, of in counted.items()]
    rows.append(preference("all", sum(counted.values(), Counter[str]()), methods))
    report.show(rows)
    report.write(json_file, rows, pairs=len(of_key), people=len(votes))
