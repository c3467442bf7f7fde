"""Figures of how well models complete images: of inpainting, and of colorization with hints."""

from pathlib import Path

from tables import Row, percent, results, table

HOLES = ("scratches", "boxes", "strokes")
METHODS = {
    "telea": "Telea",
    "navier-stokes, smooth first filling": "Navier–Stokes",
    "biharmonic": "biharmonic",
    "g'mic matchpatch": "G'MIC matchpatch",
    "patchmatch": "PyPatchMatch",
    "patchmatch, first filling": "first filling with PyPatchMatch",
    "model": "**inpaint-photo**",
    "model, smooth first filling": "**inpaint-photo**, without PyPatchMatch",
}


def inpainting(root: Path) -> str:
    """Return the table of LPIPS, and of PSNR in the hole, of each method for each kind of hole."""
    found = _by_hole(root)
    lines = []
    for method, label in METHODS.items():
        rows = [found[hole, method] for hole in HOLES]
        values = [f"{row['lpips']:.4f} ({row['hole psnr']:.1f})" for row in rows]
        lines.append([label, *values, f"{max(row['seconds'] for row in rows):.2g}"])
    return table(["method", *HOLES, "seconds at most"], lines)


def inpainting_gains(root: Path) -> str:
    """Return the table of how far the model is below its peers, and how often."""
    found = _by_hole(root)
    lines = []
    for hole in HOLES:
        cells = []
        for ours, method, peer, wins in (
            ("model", "patchmatch", "patchmatch", "wins, patches"),
            ("model, smooth first filling", "navier-stokes, smooth first filling", "navier-stokes", "wins, smooth"),
        ):
            row, of_peer = found[hole, ours], found[hole, method]
            gain = f"{row[f'− {peer}, %']:+.0f} ± {row[f'− {peer} ±, %']:.0f} %".replace("-", "−")
            psnr = f"{row['hole psnr'] - of_peer['hole psnr']:+.1f} dB".replace("-", "−")
            cells += [gain, psnr, percent(of_peer[wins])]
        lines.append([hole, *cells])
    heading = ["LPIPS", "PSNR", "wins"]
    return table(
        ["hole", *(f"PyPatchMatch: {name}" for name in heading), *(f"Navier–Stokes: {n}" for n in heading)], lines
    )


def colorization(root: Path) -> str:
    """Return the table of colorization with dots at random and at suggested places."""
    lines = []
    for row in results(root, "colorization")["rows"]:
        label = {"grey": "grey", "levin": "Levin's propagation", "model": "**colour-hints**"}[row["method"]]
        values = [f"{row['ab']:.2f}", f"{row['lpips']:.3f}", f"{row['colourfulness']:.2f}", f"{row['seconds']:.2g}"]
        lines.append([row["dots"], row["where"] if row["dots"] else "", label, *values])
    return table(["dots", "places", "method", "ab RMSE", "LPIPS", "colourfulness", "seconds"], lines)


def colorization_gains(root: Path) -> str:
    """Return the table of the model's differences from its peer and from dots at random places."""
    lines = []
    for row in results(root, "colorization")["rows"]:
        if row["method"] == "model":
            against = [_difference(row, metric, other) for other in ("peer", "random") for metric in ("ab", "lpips")]
            lines.append([row["dots"], row["where"] if row["dots"] else "", *against, percent(row["ab < grey's"])])
    compared = [f"{metric} − {other}" for other in ("peer's", "random dots'") for metric in ("ab RMSE", "LPIPS")]
    return table(["dots", "places", *compared, "better than grey"], lines)


def _difference(row: Row, metric: str, other: str) -> str:
    name = f"{metric} − {other}"
    return f"{row[f'{name}, %']:+.0f} ± {row[f'{name} ±, %']:.0f} %".replace("-", "−") if f"{name}, %" in row else ""


def _by_hole(root: Path) -> dict[tuple[str, str], Row]:
    return {(row["hole"], row["method"]): row for row in results(root, "inpainting")["rows"]}
