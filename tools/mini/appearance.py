"""What a view looks like, in numbers of no training: what the network is told besides the colour statistics.

Composition (how much of a view has which strength of haematoxylin and eosin, at three scales), texture (bands of a
pyramid, their spread and skewness, how far the two stains go together), orientation (coherence of the structure
tensor), blobs and holes (differences of averages, local maxima, what stays white or dark after an erosion), and how
much regions differ. All but the colour statistics are taken at half the view's size and below, where they cost little.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from napari_batchfx.encoders.colour_statistics import RUIFROK

_STAINS = torch.tensor(RUIFROK, dtype=torch.float64)
_UNMIX = torch.linalg.inv(_STAINS / _STAINS.norm(dim=1, keepdim=True)).float()
_STRENGTHS = (0.05, 0.15, 0.3, 0.5, 0.8, 1.2)
_JOINT_H = (0.05, 0.25, 0.55, 1.0)
_JOINT_E = (0.05, 0.2, 0.45, 0.8)
_HUE = (-0.5, -0.2, -0.05, 0.1, 0.3, 0.6)


def stains(light: torch.Tensor) -> torch.Tensor:
    """Haematoxylin, eosin and mean optical density (n, 3, h, w) of light 0..1 (n, 3, h, w)."""
    density = -torch.log((light.clamp(0, 1) * 255 + 1) / 256)
    unmixed = torch.einsum("nchw,cs->nshw", density, _UNMIX[:, :2])
    return torch.cat([unmixed, density.mean(1, keepdim=True)], 1)


def _shares(values: torch.Tensor, centres: tuple[float, ...]) -> torch.Tensor:
    """Membership of values (n, h, w) in bins with linear borders, (k, n, h, w); they sum to one."""
    parts = []
    v = values.clamp(centres[0], centres[-1])
    for i, centre in enumerate(centres):
        w = torch.ones_like(v)
        if i:
            w = torch.minimum(w, (v - centres[i - 1]) / (centre - centres[i - 1]))
        if i + 1 < len(centres):
            w = torch.minimum(w, (centres[i + 1] - v) / (centres[i + 1] - centre))
        parts.append(w.clamp_min_(0))
    return torch.stack(parts)


def _composition(image: torch.Tensor) -> list[torch.Tensor]:
    h, e, m = image.unbind(1)
    out = []
    for values, centres in ((m, _STRENGTHS), (h, _STRENGTHS), (h - e, _HUE)):
        out.append(_shares(values, centres).mean((2, 3)).T)
    a, b = _shares(h, _JOINT_H).flatten(2), _shares(e, _JOINT_E).flatten(2)
    joint = torch.einsum("inp,jnp->nij", a, b) / a.shape[2]
    out.append(joint.flatten(1))
    return [part.clamp_min(0).sqrt() for part in out]


def _mean(image: torch.Tensor, side: int) -> torch.Tensor:
    rows = functional.avg_pool2d(image, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def _largest(image: torch.Tensor, side: int) -> torch.Tensor:
    rows = functional.max_pool2d(image, (side, 1), 1, (side // 2, 0))
    return functional.max_pool2d(rows, (1, side), 1, (0, side // 2))


def _texture(image: torch.Tensor) -> list[torch.Tensor]:
    band = image - _mean(image, 3)
    size = band.square().mean((2, 3)).add(1e-6).sqrt()
    skew = (band.square() * band).mean((2, 3)) / (size**3 + 1e-5)
    together = (band[:, 0] * band[:, 1]).mean((1, 2)) / (size[:, 0] * size[:, 1] + 1e-5)
    peaks = band.abs().mean((2, 3)) / (size + 1e-3)
    return [size.log(), skew.clamp(-4, 4), peaks, together[:, None]]


def _orientation(m: torch.Tensor) -> list[torch.Tensor]:
    dy = (m[:, :, 2:, 1:-1] - m[:, :, :-2, 1:-1]) / 2
    dx = (m[:, :, 1:-1, 2:] - m[:, :, 1:-1, :-2]) / 2
    tensor = torch.cat([dy * dy, dx * dx, dy * dx], 1)
    out = []
    yy, xx, yx = _mean(tensor, 5).unbind(1)
    energy = yy + xx
    coherent = ((yy - xx).square() + 4 * yx.square()).add(1e-12).sqrt()
    out.append(coherent.sum((1, 2)) / (energy.sum((1, 2)) + 1e-3))
    out.append((coherent / (energy + 2e-4)).mean((1, 2)))
    yy, xx, yx = tensor.mean((2, 3)).unbind(1)
    out.append(((yy - xx).square() + 4 * yx.square()).add(1e-12).sqrt() / (yy + xx + 1e-4))
    return [torch.stack(out, 1)]


def _blobs(image: torch.Tensor) -> list[torch.Tensor]:
    h, m = image[:, :1], image[:, 2:]
    out = []
    for channel in (h, m):
        spot = channel - _mean(channel, 5)
        for t in (0.06, 0.2):
            out.append(torch.sigmoid((spot - t) / 0.03).mean((1, 2, 3)))
            out.append(torch.sigmoid((-spot - t) / 0.03).mean((1, 2, 3)))
        if channel is h:
            found = (spot >= _largest(spot, 3)) * torch.sigmoid((spot - 0.08) / 0.03)
            out.append((found.mean((1, 2, 3)) * 9).sqrt())
    for mask in (torch.sigmoid((m - 0.12) / 0.03), torch.sigmoid((0.4 - h) / 0.08)):
        out.append((1 - _largest(mask, 5)).mean((1, 2, 3)))
    return [torch.stack(out, 1)]


def _regions(image: torch.Tensor) -> list[torch.Tensor]:
    white = torch.sigmoid((0.12 - image[:, 2:]) / 0.03)
    both = torch.cat([image, white], 1)
    out = []
    for side in (4, 8):
        cells = functional.avg_pool2d(both, side)
        out.append(cells.std((2, 3)).add(1e-3).log())
    return out


@torch.no_grad()
def appearance(light: torch.Tensor) -> torch.Tensor:
    """Numbers (n, k) of views in light 0..1, float32 (n, 3, px, px)."""
    half = stains(functional.avg_pool2d(light.clamp(0, 1), 2))
    quarter = functional.avg_pool2d(half, 2)
    eighth = functional.avg_pool2d(quarter, 2)
    out = []
    for image in (half, quarter, functional.avg_pool2d(quarter, 4)):
        out += _composition(image)
    for image in (half, quarter, eighth):
        out += _texture(image)
    for image in (half, quarter):
        out += _orientation(image[:, 2:])
    for image in (half, quarter, eighth):
        out += _blobs(image)
    out += _regions(quarter)
    return torch.cat(out, 1)


def appearance_of(tiles: np.ndarray) -> np.ndarray:
    """The same of tiles uint8 (n, px, px, 3)."""
    light = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 255
    return appearance(light).numpy()
