"""Tiles as a model takes them: resized, normalised, on its device."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ModelInput"]

Tiles = npt.NDArray[np.uint8]
Three = tuple[float, float, float]


class ModelInput:
    """Turns tiles into a model's input.

    On a CPU Pillow's filter resizes, bit for bit, and one pass over the pixels writes the normalised numbers,
    channels innermost, from a table of the 256 grey levels: the same numbers as ``(x / 255 - mean) / std`` in
    float32. On a GPU the grey levels are copied, from pinned memory and on a stream of their own, and the
    rest is done there.

    Parameters
    ----------
    size : int
        Edge of the model's input in pixels.
    mean, std : 3 floats
        On RGB in 0..1.
    interpolation : {"bicubic", "bilinear"}
    device : str
    """

    def __init__(self, size: int, mean: Three, std: Three, interpolation: str, device: str) -> None:
        self.size, self.interpolation, self.device = size, interpolation, device
        self.mean, self.std = mean, std
        middle, spread = (np.array(v, np.float32) for v in (mean, std))
        levels: npt.NDArray[np.float32] = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
        self.table: npt.NDArray[np.float32] = ((levels - middle) / spread).astype(np.float32)
        self._own = threading.local()

    def stream(self) -> AbstractContextManager[Any]:
        """On CUDA a stream of this thread's own, so that one thread's copies run beside another's model."""
        if not self.device.startswith("cuda"):
            return nullcontext()
        import torch

        if not hasattr(self._own, "stream"):
            make: Any = torch.cuda.Stream
            self._own.stream = make(self.device)
        result: AbstractContextManager[Any] = torch.cuda.stream(self._own.stream)
        return result

    def resized(self, tiles: Tiles) -> Tiles:
        """Tiles as the model sees them, uint8 (n, size, size, 3)."""
        if tiles.shape[1:3] == (self.size, self.size):
            return tiles
        if self.device == "cpu":
            return _resize(tiles, self.size, self.interpolation)
        import torch

        with torch.inference_mode():
            levels = self._resized_there(self._there(tiles))
            result: Tiles = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return result

    def batch(self, tiles: Tiles) -> Any:
        """Normalised float32 tensor (n, 3, size, size) on the device, channels innermost in memory."""
        import torch

        if self.device == "cpu":
            tiles = np.ascontiguousarray(self.resized(tiles))
            out = np.empty(tiles.shape, np.float32)
            _normalise()(tiles.reshape(-1), self.table, out.reshape(-1))
            return torch.from_numpy(out).permute(0, 3, 1, 2)
        levels = self._there(tiles)
        if tiles.shape[1:3] != (self.size, self.size):
            levels = self._resized_there(levels)
        if not hasattr(self._own, "factors"):
            # made once a thread: making them waits for the device
            mean, std = (np.array(v, np.float64).reshape(1, 3, 1, 1) for v in (self.mean, self.std))
            self._own.factors = [
                torch.from_numpy(v.astype(np.float32)).to(self.device) for v in (1 / (255 * std), -mean / std)
            ]
        scale, shift = self._own.factors
        return levels.to(torch.float32).mul_(scale).add_(shift)

    def _there(self, tiles: Tiles) -> Any:
        """The grey levels on the device, uint8 (n, 3, h, w), channels innermost."""
        import torch

        here = torch.from_numpy(np.ascontiguousarray(tiles))
        if self.device.startswith("cuda"):
            here = self._pinned(here)
        return here.to(self.device, non_blocking=self.device.startswith("cuda")).permute(0, 3, 1, 2)

    def _pinned(self, here: Any) -> Any:
        """A copy in pinned memory, kept for this thread's next batch; the thread waits for each batch."""
        import torch

        buffer = getattr(self._own, "pinned", None)
        if buffer is None or buffer.numel() < here.numel():
            buffer = self._own.pinned = torch.empty(here.numel(), dtype=torch.uint8, pin_memory=True)
        there = buffer[: here.numel()].view(here.shape)
        there.copy_(here)
        return there

    def _resized_there(self, batch: Any) -> Any:
        import torch
        from torch.nn.functional import interpolate

        size = (self.size, self.size)
        # rounded to grey levels, as the image libraries that the models were trained with do
        return (
            interpolate(
                batch.to(torch.float32), size, mode=self.interpolation, antialias=True, align_corners=False
            )
            .round_()
            .clamp_(0, 255)
        )


def _resize(tiles: Tiles, size: int, interpolation: str) -> Tiles:
    """What Pillow's ``Image.resize`` gives."""
    out = np.empty((len(tiles), size, size, 3), np.uint8)
    height, width = tiles.shape[1:3]
    if interpolation == "bicubic":
        from napari_batchfx.tiles._resample import bicubic

        for i, tile in enumerate(tiles):
            out[i] = bicubic(tile, size, (0.0, 0.0, float(width), float(height)))
        return out
    from PIL import Image

    for i, tile in enumerate(tiles):
        out[i] = np.asarray(
            Image.fromarray(np.ascontiguousarray(tile)).resize((size, size), Image.Resampling.BILINEAR)
        )
    return out


@functools.cache
def _normalise() -> Callable[..., None]:
    from numba import njit

    @njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
    def normalise(levels: Tiles, table: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        for i in range(0, len(levels), 3):
            out[i] = table[levels[i], 0]
            out[i + 1] = table[levels[i + 1], 1]
            out[i + 2] = table[levels[i + 2], 2]

    kernel: Callable[..., None] = normalise
    return kernel
