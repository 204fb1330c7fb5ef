"""Features of batchfx-mini for tiles at their own size, and stain normalisation of tiles by slide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mini_features", "normalised"]


def mini_features() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A function from uint8 (n, h, w, 3) to float32 (n, dim), batchfx-mini at the tiles' own size."""
    import torch

    from napari_batchfx.adapt.heads._norms import chunked
    from napari_batchfx.encoders.built_in import mini_files, mini_network

    model, config = mini_network(), mini_files().pretrained_cfg

    def encode(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = [model(x).numpy() for x in chunked(tiles, 32, config["mean"], config["std"])]
        return np.concatenate(parts).astype(np.float32)

    return encode


def normalised(tiles: NDArray[np.uint8], slide: NDArray[Any], method: str) -> NDArray[np.uint8]:
    """Tiles with the stain of each slide, estimated on all of its tiles, brought to the reference."""
    from napari_batchfx.errors import StainError
    from napari_batchfx.stain import MacenkoNormalizer, ReinhardNormalizer, estimate

    normalizer: Any = {"macenko": MacenkoNormalizer, "reinhard": ReinhardNormalizer}[method]()
    out = tiles.copy()
    for name in np.unique(slide):
        rows = np.flatnonzero(slide == name)
        mosaic = np.concatenate(list(tiles[rows]), axis=0)
        try:
            transform = normalizer.from_source(estimate(mosaic, method))
        except StainError:
            continue  # too little tissue: the slide stays as it is
        out[rows] = transform.transform(mosaic).reshape(tiles[rows].shape)
    return out
