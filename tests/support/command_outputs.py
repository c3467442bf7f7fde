"""Run forty commands, and write the hash of each file that they make, to compare two versions of the code.

    python tests/support/command_outputs.py before.txt       # with one version
    python tests/support/command_outputs.py after.txt        # with the other one, on the same machine
    diff before.txt after.txt

Each command runs in a folder of its own, with inputs that are made from the photographs of the tests. The list has the
exit code of each command, and the SHA-256 of each file, and of standard output where the name of the command ends in
`>`. Files that name versions, paths or measured figures are not hashed.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from clips import make_clip
from commands import in_a_process
from described import XMP, exif_file
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
PHOTOGRAPHS = REPOSITORY / "tests/data/photographs"
IMAGES = REPOSITORY / "docs/images"
PROGRAMS = Path(sys.executable).parent
UNHASHED = {"job.json", "memory.json", "README.md"}

COMMANDS = {
    "image, sheet": "caflow image small.png -o out.png --sheet",
    "image, one sample, JPEG": "caflow image small.png -o out.jpg -n 1",
    "image, all samples, maps": "caflow image small.png -o out.png -n 3 --keep-all --maps",
    "image, model chosen for a JPEG of quality 30": "caflow image coded.jpg -o out.png -n 2",
    "image, 16 bits to TIFF": "caflow image deep.png -o out.tiff -n 2",
    "image, alpha": "caflow image alpha.png -o out.png -n 2",
    "image, Exif orientation": "caflow image turned.jpg -o out.jpg -n 2",
    "image, WebP with metadata": "caflow image turned.jpg -o out.webp -n 2",
    "image, without metadata": "caflow image turned.jpg -o out.jpg -n 2 --no-metadata",
    "image, ×2.5": "caflow image small.png -o out.png -n 2 --scale 2.5",
    "image, in a box": "caflow image small.png -o out.png -n 2 --fit 100x90",
    "image, temperature and seed": "caflow image small.png -o out.png -n 2 --temperature 1 --seed 7",
    "image, consistency": "caflow image small.png -o out.png -n 3 --consistent --rank consistency",
    "image, rejected": "caflow image small.png -o out.png -n 3 --min-typicality 0.3",
    "image, replaced": "caflow image noise.png -o out.png -n 2 --min-typicality 0.9 --redraws 0 --otherwise bicubic",
    "image, judged as written": "caflow image small.png -o out.jpg -n 2 --min-typicality 0.01 --judge image",
    "image, known degradation": "caflow image coded.jpg -o out.png -n 2 --model x4-real --assume noise=3",
    "image, tiles": "caflow image large.jpg -o out.png -n 1",
    "image, grey, palette, CMYK": "caflow image grey.png palette.png cmyk.jpg -o out -n 1",
    "image, odd files": "caflow image odd -o out -n 2 --force",
    "image, folder by workers": "caflow image folder -o out -n 2 --workers 2 --threads 1",
    "image, folder resumed": "caflow image folder -o done -n 2",
    "image, folder with another format": "caflow image folder -o out -n 1 --format webp --quality 80 --suffix -x4",
    "image, pipe >": "caflow image small.png -o - -n 1",
    "image, mask": "caflow image scratched.jpg --mask scratched-mask.png -o out.png -n 2",
    "image, hints": "caflow image grey.jpg --hints grey-hints.png -o out.png -n 2 --suggest-hints 5",
    "video, lossless": "caflow video clip.mkv -o out.mkv --codec ffv1 --quiet",
    "video, H.264 with sound": "caflow video clip.mkv -o out.mp4 --quiet",
    "video, by workers": "caflow video clip.mkv -o out.mp4 --workers 2 --threads 1 --segment-frames 4 --quiet",
    "video, animation": "caflow video clip.mkv -o out.gif --end 0.3 --quiet",
    "video, replaced frames, other size": "caflow video clip.mkv -o out.mkv --codec ffv1 --model x4-photo -n 2 "
    "--end 0.2 --min-typicality 0.9 --otherwise bicubic --width 100 --quiet",
    "video, Y4M >": "caflow video clip.mkv -o - --end 0.2 --quiet",
    "filter": "caflow filter pairs.csv -o out",
    "filter, by workers, copies": "caflow filter damaged.csv -o out --accepted copy --workers 2 --threads 1",
    "score >": "caflow score truth.png small.png --json --maps out",
    "score, mask >": "caflow score scratched.jpg scratched.jpg --mask scratched-mask.png --model inpaint-photo --json",
    "calibrate": "caflow calibrate model.caflow --data folder --sides 32,64 --temperatures 0.8 --force",
    "report": "caflow report judged/scores.jsonl -o report.html",
    "export": "caflow-export x4-photo -o out.caflow --precision fp16",
    "info >": "caflow info x4-photo --json",
}


def make_inputs(folder: Path) -> None:
    """Fill a folder with all inputs of the commands."""
    truth = Image.open(PHOTOGRAPHS / "canyon-wren.jpg").crop((60, 40, 252, 200))
    small = truth.resize((48, 40), Image.Resampling.BICUBIC)
    truth.save(folder / "truth.png")
    small.save(folder / "small.png")
    small.save(folder / "coded.jpg", quality=30)
    small.save(folder / "turned.jpg", quality=95, exif=exif_file(), dpi=(300, 300), xmp=XMP)
    small.convert("L").save(folder / "grey.png")
    small.quantize(32).save(folder / "palette.png")
    small.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.open(PHOTOGRAPHS / "casa-mila.jpg").resize((320, 240)).save(folder / "large.jpg", quality=95)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(folder / "noise.png")
    cv2.imwrite(str(folder / "deep.png"), np.asarray(small, np.uint16) * 256 + 77)
    clear = small.copy()
    clear.putalpha(Image.linear_gradient("L").resize(small.size))
    clear.save(folder / "alpha.png")
    for name in ("scratched.jpg", "scratched-mask.png", "grey.jpg", "grey-hints.png"):
        Image.open(IMAGES / name).crop((0, 0, 96, 64)).save(folder / name, quality=95)
    make_clip(folder)
    _make_folders(folder)


def _make_folders(folder: Path) -> None:
    """Make a folder with a folder below it, pairs of which some are damaged, and a folder of odd files."""
    (folder / "folder/below").mkdir(parents=True)
    (folder / "pairs").mkdir()
    pairs = ["target,condition"]
    for number, path in enumerate(sorted(PHOTOGRAPHS.glob("*.jpg"))[:6]):
        target = Image.open(path).crop((40, 40, 168, 136))
        target.save(folder / "folder" / ("below" if number > 3 else "") / path.name, quality=95)
        target.save(folder / f"pairs/{path.stem}.png")
        target.resize((32, 24), Image.Resampling.BICUBIC).save(folder / f"pairs/{path.stem}-small.png")
        pairs.append(f"pairs/{path.stem}.png,pairs/{path.stem}-small.png")
    (folder / "pairs.csv").write_text("\n".join(pairs))
    (folder / "pairs/broken.png").write_bytes((folder / "pairs/canyon-wren.png").read_bytes()[:500])
    wrong = [f"pairs/{name}.png,pairs/canyon-wren-small.png" for name in ("broken", "missing")]
    (folder / "damaged.csv").write_text("\n".join([*pairs, *wrong]))
    odd = folder / "odd"
    odd.mkdir()
    for name in ("good.png", "name with ümlaut\nand line.png", "png.jpg"):
        shutil.copy(folder / "small.png", odd / name)
    (odd / "empty.png").touch()
    (odd / "cut.jpg").write_bytes((folder / "coded.jpg").read_bytes()[:400])
    (odd / "text.png").write_text("this is no image")
    Image.new("RGB", (1, 1), "red").save(odd / "one.png")
    Image.new("RGB", (3, 200), "blue").save(odd / "narrow.webp", lossless=True)


def run(name: str, command: str, inputs: Path, folder: Path) -> list[str]:
    """Run a command with copies of the inputs in `folder`. Return its lines of the list."""
    shutil.copytree(inputs, folder)
    shutil.copytree(REPOSITORY / "tests/data/tiny.caflow", folder / "model.caflow")
    if " done " in command:
        call(command.replace("-n 2", "-n 2 --force"), folder)
        (folder / "done/canyon-wren.jpg").unlink()
    if "judged/" in command:
        call("caflow filter pairs.csv -o judged", folder)
    known = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = call(command, folder)
    lines = [f"{name}: exit code {done.returncode}"]
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        print(f"{command}\n{done.stderr}", file=sys.stderr)
    if name.endswith(">"):
        lines.append(f"    {_sha256(done.stdout.encode('latin-1'))}  standard output")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in UNHASHED and known.get(path) != path.read_bytes():
            lines.append(f"    {_sha256(_contents(path, folder))}  {path.relative_to(folder).as_posix()!r}")
    return lines


def call(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder. Its output is decoded as Latin-1, which keeps each byte."""
    program, *arguments = shlex.split(command)
    return in_a_process([PROGRAMS / program, *arguments], cwd=folder, encoding="latin-1")


def _contents(path: Path, folder: Path) -> bytes:
    """Return the bytes of a file, without what differs between two runs of the same version.

    Journals have no order; their lines have paths, times of files and hashes. Matroska files have random numbers.
    """
    if path.suffix == ".mkv":
        with av.open(str(path)) as container:
            return b"".join(bytes(packet) for packet in container.demux())
    if path.suffix != ".jsonl":
        return path.read_bytes()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    same = [
        {key: value for key, value in row.items() if not key.endswith(("stamp", "stamps", "sha256"))} for row in rows
    ]
    return "\n".join(sorted(json.dumps(row, sort_keys=True) for row in same)).replace(str(folder), "").encode()


def _sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()[:16]


def main(output: Path) -> None:
    """Run all commands and write the list."""
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        inputs = Path(temporary) / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        folder = Path(temporary) / "work"  # one name for all, because results may name their folder
        for name, command in COMMANDS.items():
            lines += run(name, command, inputs, folder)
            shutil.rmtree(folder)
    output.write_text("\n".join(lines) + "\n")
    print(f"{len(COMMANDS)} commands → {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
