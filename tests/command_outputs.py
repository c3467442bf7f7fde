"""Run forty commands, and write the hash of each file that they make, to compare two versions of the code.

    python tests/command_outputs.py before.txt       # with one version
    python tests/command_outputs.py after.txt        # with the other one, on the same machine
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
import imageio_ffmpeg
import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
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
    "image, alpha to JPEG": "caflow image alpha.png -o out.jpg -n 2",
    "image, Exif orientation": "caflow image turned.jpg -o out.jpg -n 2",
    "image, WebP with metadata": "caflow image turned.jpg -o out.webp -n 2",
    "image, PNG with metadata": "caflow image turned.jpg -o out.png -n 2",
    "image, without metadata": "caflow image turned.jpg -o out.jpg -n 2 --no-metadata",
    "image, TIFF with metadata": "caflow image turned.tiff -o out.tiff -n 2",
    "image, ×2.5": "caflow image small.png -o out.png -n 2 --scale 2.5",
    "image, ×9": "caflow image tiny.png -o out.png -n 2 --scale 9",
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
    "image, mask": "caflow image scratched.jpg --mask mask.png -o out.png -n 2",
    "image, hints": "caflow image grey.jpg --hints hints.png -o out.png -n 2 --suggest-hints 5",
    "video, lossless": "caflow video clip.mp4 -o out.mkv --codec ffv1 --quiet",
    "video, H.264 with sound": "caflow video clip.mp4 -o out.mp4 --quiet",
    "video, by workers": "caflow video clip.mp4 -o out.mp4 --workers 2 --threads 1 --segment-frames 4 --quiet",
    "video, numbered images": "caflow video clip.mp4 -o out/%03d.png --start 0.2 --end 0.5 --quiet",
    "video, animation": "caflow video clip.mp4 -o out.gif --end 0.3 --quiet",
    "video, replaced frames, other size": "caflow video clip.mp4 -o out.mkv --codec ffv1 --model x4-photo -n 2 "
    "--end 0.2 --min-typicality 0.9 --otherwise bicubic --width 100 --quiet",
    "video, Y4M >": "caflow video clip.mp4 -o - --end 0.2 --quiet",
    "filter": "caflow filter pairs.csv -o out",
    "filter, by workers, copies": "caflow filter damaged.csv -o out --accepted copy --workers 2 --threads 1",
    "score >": "caflow score truth.png small.png --json --maps out",
    "score, mask >": "caflow score scratched.jpg scratched.jpg --mask mask.png --model inpaint-photo --json",
    "calibrate": "caflow calibrate model.caflow --data folder --sides 32,64 --temperatures 0.8 --force",
    "report": "caflow report judged/scores.jsonl -o report.html",
    "export": "caflow-export x4-photo -o out.caflow --precision fp16",
    "info >": "caflow info x4-photo --json",
}


def make_inputs(folder: Path) -> None:
    """Fill a folder with all inputs of the commands."""
    wren = Image.open(PHOTOGRAPHS / "canyon-wren.jpg")
    truth = wren.crop((60, 40, 252, 200))
    small = truth.resize((48, 40), Image.Resampling.BICUBIC)
    truth.save(folder / "truth.png")
    small.save(folder / "small.png")
    small.crop((0, 0, 16, 12)).save(folder / "tiny.png")
    small.save(folder / "coded.jpg", quality=30)
    small.convert("L").save(folder / "grey.png")
    small.quantize(32).save(folder / "palette.png")
    small.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.open(PHOTOGRAPHS / "casa-mila.jpg").resize((320, 240)).save(folder / "large.jpg", quality=95)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(folder / "noise.png")
    _make_deep(folder / "deep.png", np.asarray(small))
    clear = small.copy()
    clear.putalpha(Image.linear_gradient("L").resize(small.size))
    clear.save(folder / "alpha.png")
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0112: 6, 0x8298: "Licence"})
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>words</a></x:xmpmeta>'
    small.save(folder / "turned.jpg", quality=95, exif=exif, dpi=(300, 300), xmp=xmp)
    small.save(folder / "turned.tiff", exif=exif, dpi=(300, 300))
    _make_completing_inputs(folder)
    _make_folders(folder)
    _make_clip(folder / "clip.mp4")


def _make_deep(path: Path, pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    deep = pixels.astype(np.uint16) * 257
    deep[::2] += 77
    cv2.imwrite(str(path), deep[..., ::-1])


def _make_completing_inputs(folder: Path) -> None:
    box = (0, 0, 96, 64)
    Image.open(IMAGES / "scratched.jpg").crop(box).save(folder / "scratched.jpg", quality=95)
    Image.open(IMAGES / "scratched-mask.png").crop(box).save(folder / "mask.png")
    Image.open(IMAGES / "grey.jpg").crop(box).save(folder / "grey.jpg", quality=95)
    Image.open(IMAGES / "grey-hints.png").crop(box).save(folder / "hints.png")


def _make_folders(folder: Path) -> None:
    photographs = sorted(PHOTOGRAPHS.glob("*.jpg"))
    (folder / "folder/below").mkdir(parents=True)
    pairs = ["target,condition"]
    for number, path in enumerate(photographs[:6]):
        target = Image.open(path).crop((40, 40, 168, 136))
        place = folder / "folder" / ("below" if number > 3 else "")
        target.save(place / path.name, quality=95)
        (folder / "pairs").mkdir(exist_ok=True)
        target.save(folder / f"pairs/{path.stem}.png")
        target.resize((32, 24), Image.Resampling.BICUBIC).save(folder / f"pairs/{path.stem}-small.png")
        pairs.append(f"pairs/{path.stem}.png,pairs/{path.stem}-small.png")
    (folder / "pairs.csv").write_text("\n".join(pairs) + "\n")
    (folder / "pairs/broken.png").write_bytes((folder / "pairs/canyon-wren.png").read_bytes()[:3000])
    pairs.insert(2, "pairs/broken.png,pairs/canyon-wren-small.png")
    (folder / "damaged.csv").write_text("\n".join([*pairs, "pairs/missing.png,pairs/canyon-wren-small.png"]) + "\n")
    odd = folder / "odd"
    odd.mkdir()
    shutil.copy(folder / "small.png", odd / "good.png")
    shutil.copy(folder / "tiny.png", odd / "name with ümlaut\nand line.png")
    (odd / "empty.png").touch()
    (odd / "cut.jpg").write_bytes((folder / "coded.jpg").read_bytes()[:400])
    (odd / "text.png").write_text("this is no image")
    shutil.copy(folder / "small.png", odd / "png.jpg")
    Image.new("RGB", (1, 1), "red").save(odd / "one.png")
    Image.new("RGB", (3, 200), "blue").save(odd / "narrow.webp", lossless=True)


def _make_clip(path: Path) -> None:
    sources = ["-f", "lavfi", "-i", "testsrc2=s=48x32:r=10:d=1", "-f", "lavfi", "-i", "sine=f=440:r=48000:d=1"]
    coding = ["-c:v", "libx264", "-threads", "1", "-crf", "20", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *sources, *coding, str(path)], check=True)


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
    return subprocess.run(
        [PROGRAMS / program, *arguments], cwd=folder, capture_output=True, encoding="latin-1", check=False
    )


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
