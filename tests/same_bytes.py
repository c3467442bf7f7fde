"""Check that two commits write the same bytes: images, a sheet, maps, verdicts, a score, a video, a bundle.

    python tests/same_bytes.py b724952 HEAD

It runs each commit's own code in a temporary work tree, with the packages that are installed here. State that jobs
keep only to resume (`job.json`, `results.jsonl`, the seals of lines) is not compared.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
STATE = {"job.json", "journal.json", "results.jsonl", ".lock"}
NOT_COMPARED = {"sha256", "target_stamp", "condition_stamp", "input_stamp", "latency"}
"""Fields that are not compared: seals, which depend on all other fields, and fields that depend on the time."""
COMMANDS: list[tuple[str, ...]] = [
    ("caflow", "image", "small", "-o", "best", "-n", "3", "--json"),
    ("caflow", "image", "small/0.png", "-o", "kept.png", "-n", "4", "--keep", "4,2,1", "--json"),
    ("caflow", "image", "small/0.png", "-o", "shown/0.png", "-n", "3", "--sheet", "--maps", "--keep-all", "--json"),
    (
        "caflow",
        "image",
        "small/1.png",
        "-o",
        "bicubic.jpg",
        "-n",
        "2",
        "--min-typicality",
        "0.9",
        "--untypical",
        "bicubic",
    ),
    (
        "caflow",
        "image",
        "small/0.png",
        "-o",
        "consistent.png",
        "-n",
        "2",
        "--consistent",
        "--rank",
        "typical",
        "--json",
    ),
    ("caflow", "image", "large/0.png", "-o", "tiled.png", "-n", "1", "--pixel-budget", "16384", "--overlap", "32"),
    ("caflow", "filter", "pairs.csv", "-o", "verdicts", "--alpha", "0.1"),
    ("caflow", "score", "large/0.png", "small/0.png", "--json"),
    (
        "caflow",
        "video",
        "clip.mp4",
        "-o",
        "larger.mp4",
        "-n",
        "2",
        "--noise",
        "ar1:0.8",
        "--bundle",
        "x4-photo",
        "--json",
    ),
    ("caflow-export", "model.pt", "-o", "model.caflow"),
]


@click.command()
@click.argument("before")
@click.argument("after", default="HEAD")
def main(before: str, after: str) -> None:
    """Compare the outputs of the commits BEFORE and AFTER. The exit code is 1 if any output differs."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = [run(commit, folder / str(number)) for number, commit in enumerate((before, after))]
        names = sorted(made[0].keys() | made[1].keys())
        different = [name for name in names if made[0].get(name) != made[1].get(name)]
        for name in different:
            click.echo(f"differs: {name}")
        click.echo(f"{len(names) - len(different)} of {len(names)} outputs are the same")
    sys.exit(bool(different))


def run(commit: str, folder: Path) -> dict[str, bytes]:
    """Run all commands of a commit. Return the files that they write, by path, and their output, by command."""
    tree = folder.with_name(f"{folder.name}-tree")
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
    try:
        folder.mkdir()
        write_inputs(tree, folder)
        printed = {" ".join(command): _printed(tree, folder, command) for command in COMMANDS}
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    files = {path for path in folder.rglob("*") if path.is_file() and path.name not in STATE}
    return printed | {str(path.relative_to(folder)): _comparable(path.read_bytes()) for path in files}


def write_inputs(tree: Path, folder: Path) -> None:
    """Write crops of photographs, a list of pairs, a clip and a checkpoint, all from the commit's own files."""
    lines = ["target,condition"]
    for kind in ("small", "large"):
        (folder / kind).mkdir()
    for number, path in enumerate(sorted((tree / "tests" / "data" / "photographs").glob("*.jpg"))[:3]):
        image = cv2.imread(str(path))
        assert image is not None
        target = image[200:328, 300:460]
        condition = cv2.resize(target, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "large" / f"{number}.png"), target)
        cv2.imwrite(str(folder / "small" / f"{number}.png"), condition)
        lines.append(f"large/{number}.png,small/{number}.png")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    assert image is not None
    clip = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (40, 32))
    for number in range(12):
        clip.write(np.ascontiguousarray(image[200 : 200 + 32, 300 + number : 340 + number]))
    clip.release()
    _python(tree, folder, "-c", SMALL_MODEL)


SMALL_MODEL = """
import torch
from caflow_training import checkpoint
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
torch.manual_seed(0)
model = CAFlow(CAFlowConfig(levels=2, condition_steps=1, target_steps=1, own_steps=1, cross_steps=1, image_width=8,
                            conditional_width=8, residual=True))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
checkpoint.save("model.pt", model)
"""


def _printed(tree: Path, folder: Path, command: tuple[str, ...]) -> bytes:
    module = {"caflow": "caflow_deploy.cli", "caflow-export": "caflow_export.cli"}[command[0]]
    code = f"import sys; from {module} import main; sys.argv = {list(command)!r}; main()"
    return _comparable(_python(tree, folder, "-c", code))


def _python(tree: Path, folder: Path, *arguments: str) -> bytes:
    places = [tree, *(tree / area for area in ("training", "export", "runtime"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{tree.name}: {arguments[-1]}: {done.stderr.decode()}")
    return done.stdout + done.stderr


def _comparable(content: bytes) -> bytes:
    """Return lines of JSON without the fields in `NOT_COMPARED`, and any other content unchanged."""
    try:
        lines = [json.loads(line) for line in content.splitlines()]
    except ValueError:
        return content
    kept = [
        {key: value for key, value in line.items() if key not in NOT_COMPARED} if isinstance(line, dict) else line
        for line in lines
    ]
    return json.dumps(kept).encode()


if __name__ == "__main__":
    main()
