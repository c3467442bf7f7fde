"""Metadata of image files: copies between all formats, as Pillow and exiftool read them."""

import json
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from commands import caflow, command, in_a_process, json_lines, messages
from described import ALL, IPTC, MAKER_NOTE, PROFILE, THUMBNAIL, XMP, exif_file, insert_png_chunks, nested_exif
from PIL import ExifTags, IptcImagePlugin, PngImagePlugin
from tiny import TINY

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.metadata import Metadata
from caflow_deploy.images.tiff_tags import upright

FORMATS = ["png", "jpg", "webp", "tiff"]


def made(path: Path) -> Path:
    """Write a picture of 40×30 pixels with EXIF rotation and all metadata, by Pillow if possible; return the path."""
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    options: dict[str, Any] = {"icc_profile": PROFILE, "dpi": (300, 300)}
    kind = path.suffix[1:].replace("jpg", "jpeg")
    if kind in ("png", "webp", "jpeg"):
        options["exif"] = b"Exif\0\0" + exif_file()
    if kind in ("webp", "jpeg"):
        options["xmp"] = XMP
    if kind == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    if kind == "tiff":
        path.write_bytes(exif_file(">", rgb.tobytes(), {700: XMP, 33723: IPTC, 34675: PROFILE}))
        return path
    PIL.Image.fromarray(rgb).save(path, kind, **options)
    if kind == "jpeg":
        contents = path.read_bytes()
        block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
        path.write_bytes(contents[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + contents[2:])
    return path


def enlarged(source: Path, target: Path, **options: Any) -> list[str]:
    """Write an image twice as large, with the metadata of the source. Return the warnings."""
    given = read_image(source)
    return write_image(target, np.repeat(np.repeat(given.rgb, 2, 0), 2, 1), metadata=given.metadata, **options)


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", [*FORMATS, "bmp"])
def test_metadata_goes_from_every_format_to_every_other(tmp_path: Path, source: str, target: str) -> None:
    """Pillow reads equal metadata from the result, except for sizes and orientation.

    The source has 40×30 pixels and an EXIF rotation. The result is upright, with 60×80 pixels and orientation 1. TIFF
    has no EXIF here, and only JPEG has IPTC: a warning names what is lost.
    """
    path = tmp_path / f"out.{target}"
    lost = {line.split()[1] for line in enlarged(made(tmp_path / f"in.{source}"), path)}
    kept = {"EXIF", "IPTC"} - {"tiff": {"EXIF", "IPTC"}, "jpg": set()}.get(source, {"IPTC"})
    with PIL.Image.open(path) as image:
        assert image.size == (60, 80)
        if target != "webp" or source == "tiff":
            assert image.info.get("dpi", image.getexif().get(282)) in (300, pytest.approx((300, 300), abs=0.01))
        if target == "bmp":
            assert lost == {"colour", "XMP"} | kept
            return
        assert lost == kept - {"jpg": {"EXIF", "IPTC"}, "tiff": set()}.get(target, {"EXIF"})
        assert image.info["icc_profile"] == PROFILE
        xmp = image.info["xmp"]
        for text in (b'tiff:Orientation="1"', b'PixelXDimension="60"', b"<exif:PixelYDimension>80<", b"<rdf:li>cat<"):
            assert text in xmp
        assert b"old" not in xmp
        if "EXIF" in kept - lost:
            check_exif(image.getexif())
        iptc = IptcImagePlugin.getiptcinfo(image) if target == "jpg" else None
    assert THUMBNAIL not in path.read_bytes()
    assert (iptc or {}) == ({(2, 25): b"cat", (2, 120): b"a cat", (2, 0): b"\0\4"} if "IPTC" in kept - lost else {})
    np.testing.assert_array_equal(read_image(path).rgb.shape, (80, 60, 3))


def check_exif(exif: PIL.Image.Exif) -> None:
    """Check that the EXIF of a result is that of `exif_file`, upright and with the new size."""
    described = {tag: exif[tag] for tag in (270, 271, 274, 282, 296, 306, 33432)}
    named = {270: "a cat", 271: "Maker", 306: "2026:01:02 03:04:05", 33432: "CC0"}
    assert described == named | {274: 1, 282: 300, 296: 2}
    below = exif.get_ifd(ExifTags.IFD.Exif)
    assert (below[0xA002], below[0xA003], below[0x829A]) == (60, 80, 1 / 250)
    assert below[0x927C] == MAKER_NOTE
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[2] == (47, 22, 12.34)
    assert not exif.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_of_exif_that_remain_right_stay_in_place(order: str) -> None:
    """Only values that became wrong change. All others stay in place, because makers' notes contain offsets."""
    before = exif_file(order)
    after = Metadata(exif=before).for_result(70_000, 80).exif
    assert after is not None
    assert before.index(MAKER_NOTE) == after.index(MAKER_NOTE)
    changed = [k for k in range(len(after)) if after[k] != before[k]]
    assert len(changed) < 20
    assert len(before) - len(after) == len(THUMBNAIL)
    exif = PIL.Image.Exif()
    exif.load(b"Exif\0\0" + after)
    assert (exif[274], exif.get_ifd(ExifTags.IFD.Exif)[0xA002]) == (1, 70_000)


NAMES = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "profile": "colour profile"}


@pytest.mark.parametrize("target", FORMATS)
def test_malformed_metadata_is_left_out_and_named(tmp_path: Path, target: str) -> None:
    """All other metadata is kept, and the image is always written."""
    malformed = {
        "exif": [
            b"",
            b"II",
            b"II*\0\xff\xff\xff\xff",
            b"II+\0" + bytes(40),
            exif_file()[:20],
            b"MM\0*\0\0\0\x05" + bytes(18),
            b"II*\0\x08\0\0\0\xff\xff",
        ],
        "xmp": [b"", b"\xff\xfe", b"no XML", XMP + b"\0more", XMP + bytes([255]), XMP + b" " * 2**22],
        "iptc": [b"", b"8BIM"],
        "profile": [b"", PROFILE[:128], PROFILE + b"\0", PROFILE[:200], bytes(200)],
    }
    rgb = np.zeros((4, 6, 3), np.uint8)
    for name, wrong in malformed.items():
        kept = replace(ALL, dpi=None)  # otherwise an EXIF block is made for it
        unheld = {"jpg": [], "tiff": ["exif", "iptc"]}.get(target, ["iptc"])
        for value in wrong:
            changes: dict[str, Any] = {name: value}
            said = write_image(tmp_path / f"out.{target}", rgb, metadata=replace(kept, **changes))
            assert said[0] == f"its {NAMES[name]} is malformed and was not copied"
            found = read_image(tmp_path / f"out.{target}").metadata
            assert [key for key in NAMES if getattr(kept, key) and not getattr(found, key) and key not in unheld] == (
                [] if name in unheld else [name]
            )


@pytest.mark.parametrize("target", [*FORMATS, "bmp"])
@pytest.mark.parametrize("wanted", [(72, 36), (299.72, 149.86), (72.009, 72.009)])
def test_a_resolution_is_kept(tmp_path: Path, target: str, wanted: tuple[float, float]) -> None:
    """JPEG stores whole pixels per inch, and PNG and BMP whole pixels per metre."""
    path = tmp_path / f"out.{target}"
    assert not write_image(path, np.zeros((4, 6, 3), np.uint8), metadata=Metadata(dpi=wanted))
    found = read_image(path).metadata.dpi
    assert found == pytest.approx([round(side) for side in wanted] if target == "jpg" else wanted, abs=0.02)
    if target in ("tiff", "webp"):
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_jpeg_without_a_resolution_gets_none(tmp_path: Path) -> None:
    """Pillow would assume 72 pixels per inch for a JPEG with EXIF."""
    exif = PIL.Image.Exif()
    exif[271] = "Maker"
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "in.jpg", exif=exif)
    assert read_image(tmp_path / "in.jpg").metadata.dpi is None
    exif.update({282: 118.0, 283: 59.0, 296: 3})
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "in.jpg", exif=exif)
    assert read_image(tmp_path / "in.jpg").metadata.dpi == pytest.approx((299.72, 149.86))


def test_what_a_segment_of_jpeg_cannot_hold_is_named(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    large = (200_000).to_bytes(4, "big") + PROFILE[4:] + bytes(200_000 - len(PROFILE))
    xmp = XMP.replace(b"<dc:subject>", b" " * 70_000 + b"<dc:subject>")
    lost = write_image(tmp_path / "out.jpg", rgb, metadata=Metadata(large, ALL.exif, xmp))
    assert lost == ["its XMP was not copied: it is too large for the result's format"]
    assert read_image(tmp_path / "out.jpg").metadata.profile == large  # it is stored in several segments
    assert not write_image(tmp_path / "out.png", rgb, metadata=Metadata(large, ALL.exif, xmp))


def test_a_colour_profile_is_for_colours_or_for_grey(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    for suffix in FORMATS:
        lost = write_image(tmp_path / f"grey.{suffix}", rgb, is_grey=True, metadata=Metadata(PROFILE))
        is_kept = suffix == "webp"  # WebP has no grey images
        assert lost == ([] if is_kept else ["its colour profile was not copied: it is not for grey images"])
        assert read_image(tmp_path / f"grey.{suffix}").metadata.profile == (PROFILE if is_kept else None)


def test_a_text_that_would_fill_memory_is_not_decompressed(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(2**24 + 1))
    path = tmp_path / "a.png"
    for kind, data in ((b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"Raw profile type exif\0\0" + bomb)):
        write_image(path, np.zeros((4, 6, 3), np.uint8), metadata=ALL)
        insert_png_chunks(path, {kind: data})
        found = read_image(path).metadata
        assert found.profile == PROFILE
        assert found.xmp


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_overlapping_values_of_exif_do_not_fill_memory(tmp_path: Path, kind: str) -> None:
    """Copied, the values of this file would take hundreds of megabytes."""
    path = tmp_path / f"in.{kind.lower()}"
    if kind == "TIFF":
        tiff = exif_file("<", np.zeros((30, 40, 3), np.uint8).tobytes())
        entry = struct.pack("<HHI", 0x8769, 4, 1)
        place = tiff.index(entry) + len(entry)
        path.write_bytes(tiff[:place] + struct.pack("<I", len(tiff)) + tiff[place + 4 :] + nested_exif("<")[8:])
    else:
        PIL.Image.new("RGB", (32, 32)).save(path, kind, exif=b"Exif\0\0" + nested_exif("<"))
    tracemalloc.start()
    metadata = read_image(path).metadata
    write_image(tmp_path / f"out.{kind.lower()}", np.zeros((4, 6, 3), np.uint8), metadata=metadata)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24


@pytest.mark.parametrize("place", [8, 12])
def test_directories_in_directories_end(place: int) -> None:
    """The directory contains 4,000 times itself, or a directory that is malformed. Reading each would not end."""
    pointers = struct.pack("<H", 4000) + struct.pack("<HHII", 0x8769, 4, 1, place) * 4000 + bytes(4)
    exif = b"II*\0\x08\0\0\0" + pointers
    assert len(upright(exif, 1, 1)) == len(exif)


def test_no_metadata_leaves_the_colour_profile_alone(tmp_path: Path) -> None:
    given = made(tmp_path / "in.jpg")
    for options, wanted in ([], True), (["--no-metadata"], False):
        done = caflow("image", given, "-o", tmp_path / "out.jpg", "--model", TINY, "-n", 1, "--force", *options)
        assert (done.returncode, messages(done.stderr)) == (0, [])
        found = read_image(tmp_path / "out.jpg").metadata
        assert found.profile == PROFILE
        kept = [found.exif, found.xmp, found.iptc, found.dpi]
        assert all(kept) if wanted else kept == [None] * 4


def test_warnings_name_the_file(tmp_path: Path) -> None:
    """Each warning names its file: about malformed or unsupported metadata, and from libpng, which names no file."""
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", np.zeros((8, 8, 3), np.uint8))
    malformed = {b"eXIf": b"none", b"iCCP": b"x\0\0" + zlib.compress(PROFILE[:-4])}
    insert_png_chunks(tmp_path / "in" / "a.png", malformed)
    enlarged(made(tmp_path / "b.jpg"), tmp_path / "in" / "b.jpg")
    given = ["image", tmp_path / "in", "-o", tmp_path / "out", "--format", "webp", "--model", TINY, "-n", 1, "--json"]
    done = in_a_process(command(*given))
    assert done.returncode == 0, done.stderr
    said = [line.removeprefix(f"caflow: {tmp_path / 'in'}/") for line in messages(done.stderr)]
    assert [line[:5] for line in said] == ["a.png"] * (len(said) - 1) + ["b.jpg"]
    for name, what in (("a.png", "libpng warning"), ("a.png", "colour profile"), ("a.png", "EXIF"), ("b.jpg", "IPTC")):
        assert any(line.startswith(name) and what in line for line in said)
    assert [len(report["warnings"]) for report in json_lines(done.stdout)] == [len(said) - 1, 1]


WRITTEN = [
    *("-Make=Maker", "-Model=M 1", "-Artist=Nobody", "-Copyright=CC0", "-ImageDescription=a cat", "-Orientation#=6"),
    *("-XResolution=300", "-YResolution=300", "-ResolutionUnit=inches", "-ExifImageWidth=40", "-ExifImageHeight=30"),
    *("-DateTimeOriginal=2026:01:02 03:04:05", "-ExposureTime=1/250", "-FNumber=2.8", "-ISO=200", "-UserComment=why"),
    *("-GPSLatitude=47.37", "-GPSLatitudeRef=N", "-GPSLongitude=8.54", "-GPSLongitudeRef=E", "-InteropIndex=R98"),
    *("-XMP-dc:Subject=cat", "-XMP-dc:Subject=grey", "-XMP-xmp:Rating=4", "-XMP-tiff:Orientation#=6"),
    *("-XMP-exif:ExifImageWidth=40", "-XMP-exif:ExifImageHeight=30"),
]
WRITTEN_IPTC = ["-IPTC:Keywords=cat", "-IPTC:Keywords=grey", "-IPTC:City=Zürich", "-CodedCharacterSet=UTF8"]
STORED = {
    *("ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "PhotometricInterpretation", "StripOffsets"),
    *("SamplesPerPixel", "RowsPerStrip", "StripByteCounts", "PlanarConfiguration", "ExtraSamples", "Predictor"),
    *("SampleFormat", "YCbCrPositioning"),
}
"""Tags that describe how pixels are stored. They differ between formats."""
THUMBNAIL_GROUP = "IFD1"
UNSUPPORTED: dict[str, tuple[str, ...]] = {"jpg": (), "tiff": ("IPTC", "IFD0", "ExifIFD", "GPS", "InteropIFD")}
"""Groups that are not copied from and to TIFF; from and to others than JPEG, it is IPTC."""
CHANGED = {"Orientation": "1", "ExifImageWidth": "60", "ExifImageHeight": "80"}


@pytest.mark.full
@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed (.ci/packages)")
def test_exiftool_reads_the_same_of_sources_and_results(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    for source in FORMATS:
        PIL.Image.fromarray(rgb).save(tmp_path / f"in.{source}")
    (tmp_path / "profile.icc").write_bytes(PROFILE)
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "thumbnail.jpg")
    write = ["exiftool", "-q", "-overwrite_original", *WRITTEN, f"-icc_profile<={tmp_path / 'profile.icc'}"]
    run(*write, tmp_path / "in.png", tmp_path / "in.webp")
    thumbnail = f"-ThumbnailImage<={tmp_path / 'thumbnail.jpg'}"
    run(*write, *WRITTEN_IPTC, thumbnail, tmp_path / "in.jpg", tmp_path / "in.tiff")
    for source in FORMATS:
        for target in FORMATS:
            enlarged(tmp_path / f"in.{source}", tmp_path / f"{source}.{target}")
    found = by_exiftool(tmp_path)
    for source in FORMATS:
        assert len(found[f"in.{source}"]) > 30
        for target in FORMATS:
            after = found[f"{source}.{target}"]
            without = (THUMBNAIL_GROUP, *UNSUPPORTED.get(target, ("IPTC",)), *UNSUPPORTED.get(source, ()))
            wanted = {key: value for key, value in found[f"in.{source}"].items() if not key.startswith(without)}
            wanted |= {key: CHANGED[name] for key in wanted if (name := key.rpartition(":")[2]) in CHANGED}
            different = {key: (value, after.get(key)) for key, value in wanted.items() if after.get(key) != value}
            assert not different, (source, target)
            assert not any(key.startswith(THUMBNAIL_GROUP) for key in after)


def by_exiftool(folder: Path) -> dict[str, dict[str, str]]:
    """Return the values of each file, by group and name."""
    groups = ["-EXIF:all", "-XMP:all", "-IPTC:all", "-ICC_Profile:ProfileDescription"]
    files = [path for path in folder.iterdir() if path.suffix != ".icc"]
    found = json.loads(run("exiftool", "-json", "-G1", "-n", *groups, *files))
    return {
        Path(one["SourceFile"]).name: {
            key: str(value) for key, value in one.items() if ":" in key and key.rpartition(":")[2] not in STORED
        }
        for one in found
    }


def run(*line: object) -> str:
    return subprocess.run([*map(str, line)], check=True, capture_output=True, text=True).stdout


GAMMA_1, SRGB_GAMMA = struct.pack(">I", 100_000), struct.pack(">I", 45_455)
DISPLAY_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("chunks", "kept"),
    [
        ({b"gAMA": GAMMA_1}, [b"gAMA"]),
        ({b"gAMA": SRGB_GAMMA, b"cHRM": DISPLAY_P3}, [b"gAMA", b"cHRM"]),
        ({b"cICP": bytes([12, 13, 0, 1]), b"gAMA": GAMMA_1}, [b"cICP"]),
        ({b"gAMA": SRGB_GAMMA}, []),
        ({b"cICP": bytes([1, 13, 0, 1])}, []),
        ({b"sRGB": b"\0", b"gAMA": GAMMA_1}, []),
        ({b"cICP": bytes([1, 13, 0, 0])}, [b"cICP"]),  # not the full range of values
        ({b"gAMA": b"\0"}, []),
    ],
)
def test_colours_without_profile_are_kept_in_png(tmp_path: Path, chunks: dict[bytes, bytes], kept: list[bytes]) -> None:
    """They are copied without other metadata as well. Formats that cannot store them give a warning."""
    rgb = np.zeros((4, 6, 3), np.uint8)
    write_image(tmp_path / "in.png", rgb)
    insert_png_chunks(tmp_path / "in.png", chunks)
    colours = read_image(tmp_path / "in.png").metadata.colours()
    assert not write_image(tmp_path / "out.png", rgb, metadata=colours)
    written = (tmp_path / "out.png").read_bytes()
    assert [kind for kind in chunks if kind in written] == kept
    assert all(kind + chunks[kind] in written for kind in kept)
    for target in ("jpg", "webp", "tiff", "bmp"):
        lost = write_image(tmp_path / f"out.{target}", rgb, metadata=colours)
        assert ["its colour space was not copied" in one for one in lost] == [True] * bool(kept)
