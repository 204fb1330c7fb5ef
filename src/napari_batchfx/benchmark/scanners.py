"""Eight scanners: three that were fitted to real pictures, and five between and a little beyond them."""

from __future__ import annotations

import numpy as np

from napari_batchfx.samples import SCANNERS, ScannerModel

__all__ = ["eight_scanners"]

_FITTED = ("aperio_cs2", "nanozoomer_s210", "pannoramic_1000")


def eight_scanners(seed: int = 0) -> dict[str, ScannerModel]:
    """The three fitted scanners and five mixtures of their numbers (weights in -0.3 to 1.3, sum 1).

    Examples
    --------
    >>> len(eight_scanners())
    8
    """
    rng = np.random.default_rng(seed)
    base = [SCANNERS[name] for name in _FITTED]
    out = {name: SCANNERS[name].with_(mpp=1.0) for name in _FITTED}
    for k in range(5):
        while True:
            a, b = rng.uniform(-0.3, 1.3, 2)
            w = np.array([a, b, 1 - a - b])
            if (w > -0.35).all() and (w < 1.35).all():
                break
        white = np.clip(sum(x * np.array(s.white) for x, s in zip(w, base, strict=True)), 200, 255)
        gamma = np.clip(sum(x * np.array(s.gamma) for x, s in zip(w, base, strict=True)), 0.5, 1.8)
        matrix = sum(x * np.array(s.matrix) for x, s in zip(w, base, strict=True))
        out[f"mixture_{k}"] = ScannerModel(
            f"Mixture {k}",
            white=tuple(white),
            gamma=tuple(gamma),
            matrix=tuple(tuple(row) for row in np.asarray(matrix)),
            mpp=1.0,
            blur_um=float(rng.uniform(0.25, 0.9)),
            noise=float(rng.uniform(1.0, 3.0)),
            jpeg_quality=int(rng.integers(70, 95)),
            source="weights over the three fitted scanners",
        )
    return out
