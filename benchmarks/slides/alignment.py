"""How well two scans are laid on each other: phantoms with known truth, a real pair, and unrelated tissue.

    python benchmarks/slides/alignment.py [--data FOLDER] [--every 4] [--pairs 20]

``--data`` is the folder of real files (``BATCHFX_TEST_DATA`` otherwise); what needs them is left out without.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from napari_batchfx.samples import SCANNERS, STAIN_BATCHES, Phantom
from napari_batchfx.slides import open_slide, register, write_pyramid

SIZE_UM = 1200.0


def lay(rotation_deg, scale=1.0, mirror=False, shift=(0.0, 0.0), size_um=SIZE_UM):
    """Slide um to tissue um: turned, mirrored and scaled about the middle, then shifted by shares of the size."""
    c, s = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    linear = scale * np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if mirror else 1.0])
    middle = np.full(2, size_um / 2)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = middle - linear @ middle + np.array(shift) * size_um
    return matrix


def scan(path, seed, scanner="aperio_cs2", stain="standard", affine=None, size_um=SIZE_UM, layout="gallery"):
    """Write a phantom as a scanner sees it with the glass lying as ``affine`` says."""
    phantom, model = Phantom(seed, (size_um, size_um), layout), SCANNERS[scanner]
    n, halo = round(size_um / model.mpp), model.halo_px
    corner = -halo * model.mpp
    conc = phantom.concentrations(corner, corner, n + 2 * halo, n + 2 * halo, model.mpp, affine=affine)
    pixels = model.render(conc, STAIN_BATCHES[stain], halo_px=halo, seed=len(path.name))
    return write_pyramid(path, pixels, model.mpp, compression="jpeg", quality=model.jpeg_quality)


def truth_error(found, truth, size_um=SIZE_UM):
    """Distances in um at 21 x 21 points of b that lie on a."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, size_um, 21)] * 2, indexing="ij"), -1).reshape(-1, 2)
    there = grid @ truth[:2, :2].T + truth[:2, 2]
    inside = ((there >= 0) & (there <= size_um)).all(axis=1)
    return np.hypot(*(found.apply(grid) - there)[inside].T)


CASES = [
    # rotation, scale, mirror, shift, scanner, stain
    (0, 1.0, False, (0.0, 0.0), "nanozoomer_s210", "standard"),
    (3, 1.0, False, (0.02, -0.01), "nanozoomer_s210", "standard"),
    (17, 1.0, False, (0.2, 0.0), "nanozoomer_s210", "standard"),
    (45, 1.0, False, (0.0, -0.2), "pannoramic_1000", "pale"),
    (90, 1.0, False, (0.1, 0.1), "nanozoomer_s210", "strong eosin"),
    (133, 1.0, False, (-0.2, 0.1), "nanozoomer_s210", "blue"),
    (180, 1.0, False, (0.2, 0.2), "pannoramic_1000", "standard"),
    (-151, 1.0, False, (0.0, 0.0), "aperio_cs2", "pale"),
    (-76, 1.0, False, (0.15, -0.2), "nanozoomer_s210", "blue"),
    (0, 1.0, True, (0.0, 0.0), "nanozoomer_s210", "standard"),
    (64, 1.0, True, (0.2, 0.1), "pannoramic_1000", "strong eosin"),
    (180, 1.0, True, (0.0, -0.2), "nanozoomer_s210", "pale"),
    (-110, 1.0, True, (0.1, 0.1), "nanozoomer_s210", "blue"),
    (0, 0.9, False, (0.0, 0.0), "nanozoomer_s210", "standard"),
    (0, 1.1, False, (0.1, 0.0), "nanozoomer_s210", "standard"),
    (28, 0.95, False, (0.2, -0.1), "pannoramic_1000", "pale"),
    (101, 1.05, False, (0.0, 0.2), "nanozoomer_s210", "strong eosin"),
    (-170, 0.9, False, (-0.1, 0.1), "nanozoomer_s210", "blue"),
    (155, 1.1, False, (0.1, -0.1), "pannoramic_1000", "standard"),
    (72, 0.93, True, (0.1, 0.2), "nanozoomer_s210", "pale"),
    (-35, 1.07, True, (-0.2, 0.0), "pannoramic_1000", "blue"),
    (88, 0.9, True, (0.0, 0.0), "nanozoomer_s210", "strong eosin"),
]


def phantoms(folder, cases):
    """Print one line a case; returns the medians."""
    print(
        f"\n{'turn':>5} {'scale':>5} {'mirror':>6} {'shift %':>9}  {'scanner, stain':<32} error um: median   95 %   said   verdict    s"
    )
    medians = []
    bases = {seed: scan(folder / f"a{seed}.tif", seed) for seed in (1, 2, 3)}
    for i, (turn, scale, mirror, shift, scanner, stain) in enumerate(cases):
        seed = 1 + i % 3
        truth = lay(turn, scale, mirror, shift)
        path = scan(folder / "b.tif", seed, scanner, stain, truth)
        with open_slide(bases[seed]) as a, open_slide(path) as b:
            start = time.perf_counter()
            found = register(a, b)
            seconds = time.perf_counter() - start
        error = truth_error(found, truth)
        medians.append(float(np.median(error)))
        where = f"{100 * shift[0]:.0f},{100 * shift[1]:.0f}"
        print(
            f"{turn:>5} {scale:>5} {'yes' if mirror else 'no':>6} {where:>9}  {scanner + ', ' + stain:<32} "
            f"{np.median(error):>16.2f} {np.percentile(error, 95):>6.2f} {found.residual_um:>6.2f}   {found.verdict:<9} {seconds:>4.1f}",
            flush=True,
        )
    print(
        f"phantoms: {sum(m < 2 for m in medians)} of {len(medians)} below 2 um, worst median {max(medians):.2f} um"
    )
    return medians


def picture(folder, name, pixels, mpp):
    return write_pyramid(folder / f"{name}.tif", np.ascontiguousarray(pixels), mpp, compression="deflate")


def turned(pixels, mpp, truth, shape=None):
    """Pixels of b, by cubic interpolation, where ``truth`` takes b's micrometres to those of ``pixels``."""
    from scipy import ndimage

    to_um = np.array([[mpp, 0, mpp / 2], [0, mpp, mpp / 2], [0, 0, 1]])
    matrix = np.linalg.inv(to_um) @ truth @ to_um
    shape = shape or pixels.shape[:2]
    bands = [
        ndimage.affine_transform(
            pixels[..., c].astype(np.float32), matrix[:2, :2], matrix[:2, 2], shape, order=3, cval=240.0
        )
        for c in range(3)
    ]
    return np.clip(np.stack(bands, -1), 0, 255).astype(np.uint8)


def real_pairs(folder, data):
    """The Ki-67 field on two scanners, as it is and with the second one turned, mirrored, scaled by us."""
    base = data / "scanners/ki67-two-scanners"
    print("\nKi-67, Hamamatsu and Olympus (aligned by its makers to about 1.5 um)")
    medians = []
    with open_slide(base / "OS-2-ndpi.ome.tif") as a, open_slide(base / "OS-2-vsi.ome.tif") as b:
        pixels, mpp, size = b.read(0, 0, 0, *b.shape), float(np.mean(b.mpp)), b.shape[0] * b.mpp[0]
        for turn, scale, mirror, shift in [
            (0, 1.0, False, (0, 0)),
            (30, 1.0, False, (0, 0)),
            (90, 1.0, False, (0.1, 0)),
            (180, 1.0, False, (0, 0.2)),
            (-137, 1.05, False, (0.1, -0.1)),
            (0, 1.0, True, (0, 0)),
            (75, 0.95, True, (0.1, 0.1)),
            (-160, 1.0, True, (0, -0.2)),
        ]:
            truth = lay(turn, scale, mirror, shift, size)
            path = picture(folder, "b", turned(pixels, mpp, truth), mpp)
            with open_slide(path) as moved:
                start = time.perf_counter()
                found = register(a, moved)
            error = truth_error(found, truth, size)
            medians.append(float(np.median(error)))
            print(
                f"{turn:>5} {scale:>5} {'yes' if mirror else 'no':>4} {np.median(error):>6.2f} um, 95 % {np.percentile(error, 95):.2f}, said {found.residual_um:.2f}, correlation {found.correlation:.2f}, {found.verdict}, {time.perf_counter() - start:.1f} s",
                flush=True,
            )
    print(
        f"Ki-67: {sum(m < 3 for m in medians)} of {len(medians)} below 3 um, worst median {max(medians):.2f} um"
    )
    return medians


def unrelated_slides(folder, data):
    """Name -> slide file; every one shows other tissue."""
    files = {f"phantom {seed}": scan(folder / f"u{seed}.tif", seed, size_um=1000.0) for seed in (11, 12, 13)}
    files |= {
        f"{layout} {seed}": scan(
            folder / f"{layout}{seed}.tif", seed, "pannoramic_1000", "pale", size_um=800.0, layout=layout
        )
        for layout, seed in (("tumour", 1), ("tumour", 2), ("stroma", 3), ("resection", 4), ("resection", 5))
    }
    if data is None:
        return files
    files["CMU-1"] = data / "slides/CMU-1-Small-Region.svs"
    files["Ki-67"] = data / "scanners/ki67-two-scanners/OS-2-ndpi.ome.tif"
    files["OS-1"] = data / "scanners/ki67-two-scanners/OS-1-detail.ome.tif"
    for case in ("patient_101_node_4", "patient_116_node_2"):
        tiles = [
            np.asarray(Image.open(p).convert("RGB"))
            for p in sorted((data / "tiles/camelyon17" / case).glob("*.jpg"))
        ]
        for k in range(0, len(tiles), 2):
            if k + 1 < len(tiles):
                files[f"{case} {k}"] = picture(
                    folder, f"{case}-{k}", np.concatenate(tiles[k : k + 2], axis=1), 0.25
                )
    for i, path in enumerate(sorted((data / "tiles/osteosarcoma_ut").glob("*/*.jpg"))[::8]):
        files[f"osteosarcoma {i}"] = picture(
            folder, f"osteo{i}", np.asarray(Image.open(path).convert("RGB")), 1.0
        )
    for path in (
        "stain/tiatoolbox/target_image.png",
        "stain/henorm/example1.png",
        "stain/torchstain/target.png",
        "artefacts/histolab/tcga-red-pen.png",
    ):
        files[path.split("/")[1]] = picture(
            folder, path.split("/")[1], np.asarray(Image.open(data / path).convert("RGB")), 0.5
        )
    return files


def unrelated(folder, data, most):
    """Pairs of slides that show different tissue; returns how many were not refused."""
    files = unrelated_slides(folder, data)
    names = list(files)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    rng = np.random.default_rng(0)
    pairs = [pairs[i] for i in rng.permutation(len(pairs))[:most]]
    said = []
    print(
        f"\nunrelated tissue: {len(pairs)} of {len(names) * (len(names) - 1) // 2} pairs of {len(names)} slides"
    )
    for one, two in pairs:
        with open_slide(files[one]) as a, open_slide(files[two]) as b:
            found = register(a, b)
        said.append(found.verdict)
        if found.verdict != "failed":
            print(f"  {one} / {two}: {found.verdict}, {found.to_dict()}", flush=True)
    print(
        f"unrelated: {said.count('failed')} of {len(said)} failed as they should, {said.count('uncertain')} uncertain, {said.count('good')} good"
    )
    return said


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("BATCHFX_TEST_DATA"))
    parser.add_argument("--every", type=int, default=1, help="only every n-th phantom")
    parser.add_argument("--pairs", type=int, default=100, help="of unrelated slides")
    parser.add_argument("--parts", nargs="*", default=["phantoms", "real", "unrelated"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "phantoms" in options.parts:
            phantoms(folder, CASES[:: options.every])
        if "real" in options.parts and options.data:
            real_pairs(folder, Path(options.data))
        if "unrelated" in options.parts:
            unrelated(folder, options.data and Path(options.data), options.pairs)
