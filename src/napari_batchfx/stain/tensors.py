"""The stain transforms in torch: for batches that are on a GPU already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import StainEstimate
from napari_batchfx.stain.lab import FROM_XYZ, GLASS, TO_XYZ, WHITE

if TYPE_CHECKING:
    from torch import Tensor

    from napari_batchfx.stain.transform import StainTransform

__all__ = ["transform_tensor"]


def transform_tensor(transform: StainTransform, batch: Tensor, *, channels_first: bool = False) -> Tensor:
    """Transform a batch of tiles where it is: on the CPU, or on a GPU without a copy to the CPU.

    The mathematics of :meth:`StainTransform.transform`, with logarithms and powers instead of tables; the two
    agree within one grey level.

    Parameters
    ----------
    transform : StainTransform
        Of the slide the tiles are from.
    batch : uint8 tensor (..., h, w, 3), or (..., 3, h, w)
        RGB, on any device.
    channels_first : bool
        Whether the colours are the third dimension from the end instead of the last.

    Returns
    -------
    uint8 tensor
        Same shape and device.

    Raises
    ------
    StainError
        If the batch is not 8-bit RGB.

    Examples
    --------
    >>> import torch
    >>> from napari_batchfx.stain import REFERENCE, MacenkoNormalizer
    >>> made = MacenkoNormalizer().from_source(REFERENCE)
    >>> transform_tensor(made, torch.full((2, 4, 4, 3), 255, dtype=torch.uint8)).min().item()
    255
    """
    import torch

    axis = -3 if channels_first else -1
    if batch.dtype != torch.uint8 or batch.ndim < 3 or batch.shape[axis] != 3:
        raise StainError(
            "Stain methods take 8-bit RGB tensors (..., height, width, 3), or (..., 3, height, width) with "
            f"channels_first=True; this one is {batch.dtype} {tuple(batch.shape)}."
        )
    if transform.strength == 0.0 or batch.numel() == 0:
        return batch.clone()
    with torch.no_grad():
        channels = tuple(one.float() for one in batch.unbind(axis))
        if isinstance(transform.source, StainEstimate):
            out = _two_stains(transform, channels)
            weight: Any = transform.strength
        else:
            out = _lab(transform, channels)
            weight = _weight(transform, channels)
        mixed = [
            (old + weight * (new - old) + 0.5).clamp_(0.0, 255.0).to(torch.uint8)
            for old, new in zip(channels, out, strict=True)
        ]
        return torch.stack(mixed, dim=axis)


def _two_stains(transform: StainTransform, channels: tuple[Tensor, ...]) -> list[Tensor]:
    """Kernel of :func:`od_kernel`, on whole tensors."""
    import torch

    source = transform.source
    assert isinstance(source, StainEstimate)
    lowest = -1e9 if transform.as_published else 0.0
    offset, white = source.offset, source.white
    raw = [
        float(np.log(light)) - (value + offset).clamp_(min=1.0).log_()
        for value, light in zip(channels, white, strict=True)
    ]
    density = [one.clamp(min=lowest) for one in raw]
    own, aim = transform._kernel_matrices()
    kept = float(transform._kept())
    h, e = (_weighted(row, density) for row in own)
    overlap = float(own[0] @ own[1])
    scale = 1.0 / (1.0 - overlap * overlap)
    h_free, e_free = (h - overlap * e) * scale, (e - overlap * h) * scale
    amount_h = torch.clamp(h - overlap * e_free.clamp(min=lowest), min=lowest)
    amount_e = torch.clamp(e - overlap * h_free.clamp(min=lowest), min=lowest)
    light_out, back = transform._out()
    base = transform._base()
    out = []
    for c, (whole, positive) in enumerate(zip(raw, density, strict=True)):
        # Light beyond the white point is no negative stain: it is put back.
        depth = amount_h * float(aim[0, c]) + amount_e * float(aim[1, c]) + kept * positive
        depth = depth.clamp(min=lowest) + (whole - positive) + float(base[c])
        out.append((light_out * torch.exp(-depth) - back).clamp_(0.0, 255.0))
    return out


def _lab(transform: StainTransform, channels: tuple[Tensor, ...]) -> list[Tensor]:
    """Kernel of :func:`lab_kernel`, on whole tensors."""
    import torch

    gain, shift = transform._gains()
    light = []
    for value in channels:
        v = value / 255.0
        light.append(torch.where(v > 0.04045, ((v + 0.055) / 1.055) ** 2.4, v / 12.92))
    ratios = [_weighted(row, light) for row in TO_XYZ]
    fx, fy, fz = (
        torch.where(one > 0.008856, one.clamp(min=0.008) ** (1.0 / 3.0), 7.787 * one + 16.0 / 116.0)
        for one in ratios
    )
    lightness = (116.0 * fy - 16.0) * float(gain[0]) + float(shift[0])
    a = 500.0 * (fx - fy) * float(gain[1]) + float(shift[1])
    b = 200.0 * (fy - fz) * float(gain[2]) + float(shift[2])
    y = (lightness + 16.0) / 116.0
    x, z = y + a / 500.0, y - b / 200.0
    back = [torch.where(f > 6 / 29, f**3, (f - 16 / 116) * (108 / 841)) for f in (x, y, z)]
    out = []
    for row in FROM_XYZ:
        linear = _weighted(row, back).clamp(0.0, 1.0)
        srgb = torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
        out.append(255.0 * srgb)
    return out


def _weighted(row: npt.NDArray[np.float64], parts: list[Tensor]) -> Tensor:
    """Sum of three tensors with three weights."""
    return float(row[0]) * parts[0] + float(row[1]) * parts[1] + float(row[2]) * parts[2]


def _weight(transform: StainTransform, channels: tuple[Tensor, ...]) -> Any:
    """Strength, fading out towards glass."""
    import torch

    if transform.as_published:
        return transform.strength
    lifted = [value * (WHITE / light) for value, light in zip(channels, transform.source.white, strict=True)]
    darkest = torch.minimum(torch.minimum(lifted[0], lifted[1]), lifted[2])
    return transform.strength * ((GLASS[0] - darkest) / (GLASS[0] - GLASS[1])).clamp(0.0, 1.0)
