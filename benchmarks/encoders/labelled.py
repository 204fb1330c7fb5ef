"""Labelled tiles on which encoders are compared; none of them is trained on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_batchfx.samples import CLASSES, Phantom, ScannerModel, StainBatch


@dataclass(frozen=True)
class Labelled:
    """Tiles with their class, what may not be split (``group``), and where they come from (``domain``)."""

    tiles: np.ndarray
    label: np.ndarray
    group: np.ndarray
    domain: np.ndarray

    @property
    def y(self) -> np.ndarray:
        """Class as a number, in the order of the names."""
        return np.unique(self.label, return_inverse=True)[1]


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def colorectal(data: Path) -> Labelled:
    """70 colorectal tiles of 7 tissue classes, 224 px at 0.5 um; an original name holds no patient."""
    folder = data / "tiles" / "crc_val_he_7k"
    rows = _rows(folder / "metadata.csv")
    names = np.array([row["file"] for row in rows])
    tiles = np.stack([_image(folder / name) for name in names])
    return Labelled(
        tiles, np.array([row["label"] for row in rows]), names, np.full(len(rows), "CRC-VAL-HE-7K")
    )


def lymph_nodes(data: Path) -> Labelled:
    """Cells of 256 px at about 0.25 um of two lymph nodes of two hospitals, lymphoid tissue or not.

    Lymphoid tissue is the one class that both slides hold; the other tissue is tumour on one, stroma on the other.
    """
    rows = [
        r
        for r in _rows(data / "tiles" / "camelyon17" / "tiles.csv")
        if r["label"] in ("lymphoid", "tumour", "stroma")
    ]
    images = {name: _image(data / name) for name in {r["file"] for r in rows}}
    tiles = []
    for r in rows:
        y, x, size = int(r["y"]), int(r["x"]), int(r["size"])
        tiles.append(images[r["file"]][y : y + size, x : x + size])
    label = np.array(["lymphoid" if r["label"] == "lymphoid" else "other tissue" for r in rows])
    return Labelled(
        np.stack(tiles), label, np.array([r["file"] for r in rows]), np.array([r["slide"] for r in rows])
    )


def mitoses(data: Path, per_scanner: int | None = None) -> Labelled:
    """1,094 breast tiles of 128 px, three scanners, 129 patients; ``domain`` is the scanner, ``group`` the patient."""
    folder = data / "tiles" / "mitoses-three-scanners"
    rows = _rows(folder / "tiles.csv")
    if per_scanner is not None:
        scanners = sorted({r["scanner"] for r in rows})
        rng = np.random.default_rng(0)
        kept = []
        for scanner in scanners:
            own = [r for r in rows if r["scanner"] == scanner]
            kept += [own[i] for i in np.sort(rng.permutation(len(own))[:per_scanner])]
        rows = kept
    tiles = np.stack([_image(folder / r["file"]) for r in rows])
    label, group, domain = (np.array([r[k] for r in rows]) for k in ("label", "patient", "scanner"))
    return Labelled(tiles, label, group, domain)


def phantom(
    scanners: dict[str, ScannerModel],
    stainings: dict[str, StainBatch],
    first_seed: int,
    *,
    n_phantoms: int = 10,
    per_class: int = 3,
    size_px: int = 224,
    mpp: float = 0.5,
    purity: float = 0.9,
) -> Labelled:
    """Tiles of phantoms: of each phantom and class ``per_class`` places, every scanner on places of its own.

    ``group`` is the phantom (a patient), ``domain`` the scanner. ``stainings`` are taken in turn by the phantoms.
    """
    side = 1200.0
    names = list(stainings)
    tiles, label, group, domain = [], [], [], []
    for p in range(n_phantoms):
        tissue = Phantom(first_seed + p, (side, side))
        staining = stainings[names[p % len(names)]]
        rng = np.random.default_rng([first_seed, p])
        for scanner_name, scanner in scanners.items():
            seen = scanner.with_(mpp=mpp)
            halo = seen.halo_px
            missing = dict.fromkeys(range(1, len(CLASSES)), per_class)
            for _ in range(600):
                if not any(missing.values()):
                    break
                y, x = rng.uniform(halo * mpp, side - (size_px + halo) * mpp, 2)
                rough = tissue.classes(y, x, 3, 3, size_px * mpp / 3, workers=1)
                if rough.min() != rough.max() or not missing.get(int(rough[0, 0])):
                    continue
                kinds = tissue.classes(y, x, 12, 12, size_px * mpp / 12, workers=1)
                counts = np.bincount(kinds.ravel(), minlength=len(CLASSES)) / kinds.size
                c = int(counts.argmax())
                if counts[c] < purity or not missing.get(c):
                    continue
                missing[c] -= 1
                box = size_px + 2 * halo
                conc = tissue.concentrations(y - halo * mpp, x - halo * mpp, box, box, mpp, workers=1)
                tiles.append(
                    seen.render(conc, staining, halo_px=halo, seed=int(rng.integers(1 << 30)), jpeg=True)
                )
                label.append(CLASSES[c])
                group.append(f"{first_seed + p}")
                domain.append(scanner_name)
    return Labelled(np.stack(tiles), np.array(label), np.array(group), np.array(domain))
