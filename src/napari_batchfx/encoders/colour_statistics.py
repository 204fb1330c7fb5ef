"""The built-in classical descriptor: how much of a signature is plain colour, without any network."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from napari_batchfx.encoders.base import Encoder
from napari_batchfx.errors import EncoderError

__all__ = ["COLOUR_FEATURES", "TEXTURE_FEATURES", "ColourStatistics"]

COLOUR_FEATURES: tuple[str, ...] = (
    *(f"od_{c}_{m}" for c in ("red", "green", "blue") for m in ("mean", "std", "skew")),
    *(f"lab_{c}_{m}" for c in ("l", "a", "b") for m in ("mean", "std", "skew")),
    *(f"{s}_{m}" for s in ("haematoxylin", "eosin", "residual") for m in ("mean", "std")),
    *(f"{s}_p{p:02d}" for p in (5, 50, 95) for s in ("haematoxylin", "eosin")),
    "haematoxylin_eosin_correlation",
    "od_red_share",
    "od_blue_share",
    "stained_share",
)
TEXTURE_FEATURES: tuple[str, ...] = (
    *(f"{m}_{s}px" for s in (1, 2, 4) for m in ("gradient_mean", "gradient_std", "laplacian_rms")),
    *(f"lbp_{s}px_{i if i < 9 else 'other'}" for s in (1, 2) for i in range(10)),
)

# Ruifrok & Johnston 2001: haematoxylin, eosin, and the third vector that completes them
RUIFROK = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


class ColourStatistics(Encoder):
    r"""Sixty-three named numbers a tile: 34 of colour, 29 of texture.

    The baseline of every comparison: what a site probe reads from these numbers is colour, stain intensity,
    sharpness and noise, and no foundation model was needed for it.

    *Colour* (``feature_groups["colour"]``): mean, standard deviation and skewness of the optical density
    :math:`OD = -\ln(\max(I, 1) / 255)` of each channel and of CIELAB (sRGB, D65); mean, standard deviation
    and the 5th, 50th and 95th percentile of the haematoxylin and eosin concentrations from Ruifrok's stain
    matrix, the residual, and their correlation; the share of red and of blue in the optical density; the
    share of stained pixels (mean OD > 0.1). They don't depend on where the pixels lie.

    *Texture* (``feature_groups["texture"]``), all on the mean optical density of the three channels, where a
    colour cast (a gain of a channel) is an added constant and drops out: mean and spread of the gradient and
    root mean square of the Laplacian at 1, 2 and 4 px, over the tile's own spread (+ 0.02 OD); shares of the
    ten rotation-invariant uniform local binary patterns on the 3 x 3 ring at 1 and 2 px, a neighbour counting
    when it is darker by more than 0.02 OD. Unchanged by turning the tile by 90 degrees where its side divides
    by four.

    A skewness is divided by at least (0.02 OD, 1 Lab unit) cubed and so stays finite on blank tiles. Tiles of
    any size are taken as they are, never resized; the reference is 224 px at 0.5 um/px.

    Parameters
    ----------
    threads : int or "leave-one", optional
        Threads to work in; default: all cores.

    References
    ----------
    Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution. Anal Quant Cytol
    Histol 2001;23:291-299. Ojala T, Pietikäinen M, Mäenpää T. Multiresolution gray-scale and rotation
    invariant texture classification with local binary patterns. IEEE TPAMI 2002;24:971-987.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = ColourStatistics()
    >>> white = np.full((2, 64, 64, 3), 255, np.uint8)
    >>> dict(zip(encoder.feature_names, encoder.embed(white)[0]))["stained_share"].item()
    0.0
    """

    #: Raised whenever a number changes its meaning: it is part of the key.
    version = 1

    def __init__(self, threads: int | str | None = None) -> None:
        super().__init__()
        self.name = "colour-statistics"
        self.kind = "classical"
        self.dim = len(COLOUR_FEATURES) + len(TEXTURE_FEATURES)
        self.licence = "BSD-3-Clause"
        self.assembly = "descriptor"
        self.key = f"colour-statistics/v{self.version}/fp32"
        self.feature_groups: dict[str, tuple[str, ...]] = {
            "colour": COLOUR_FEATURES,
            "texture": TEXTURE_FEATURES,
        }
        self._threads = thread_count(threads)
        self._pool: ThreadPoolExecutor | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the 63 numbers, in order."""
        return COLOUR_FEATURES + TEXTURE_FEATURES

    def _embed(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        from napari_batchfx.encoders import _colour_kernels as kernels

        density, linear, lut = kernels.tables()
        codes = kernels.pattern_codes()
        vectors = np.array(RUIFROK)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        unmix = np.ascontiguousarray(np.linalg.inv(vectors).T)
        tiles = np.ascontiguousarray(tiles)
        out = np.zeros((len(tiles), self.dim), np.float64)

        def work(some: range) -> None:
            for i in some:
                kernels.describe(tiles[i], density, linear, lut, unmix, codes, out[i])

        n = len(tiles)
        if self._threads == 1 or n == 1:
            work(range(n))
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="colour-statistics")
            # a few tiles a call: handing out each alone takes as long as a small one's numbers
            step = max(1, -(-n // (4 * self._threads)))
            list(self._pool.map(work, (range(at, min(n, at + step)) for at in range(0, n, step))))
        return out.astype(np.float32)

    def close(self) -> None:
        """Stop the worker threads."""
        super().close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def thread_count(threads: int | str | None) -> int:
    """Number of threads: a number, ``"leave-one"`` (a core for the viewer), or None for all cores."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    if threads is None:
        return cores
    if threads == "leave-one":
        return max(1, cores - 1)
    if isinstance(threads, int) and threads >= 1:
        return threads
    raise EncoderError(
        f'threads must be a number from 1 or "leave-one" (a core stays free for the viewer), not {threads!r}.'
    )
