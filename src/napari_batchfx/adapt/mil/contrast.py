"""The contrastive term: a specimen is near itself on another scanner, not other specimens of its scanner."""

from __future__ import annotations

from typing import Any

__all__ = ["scanner_contrast"]


def scanner_contrast(z: Any, tau: float = 0.1, label: Any = None) -> Any:
    """Contrastive loss over specimens that were scanned several times.

    For the anchor u of specimen i on scanner s and the positive v of the same specimen on another scanner
    s', the
    negatives are the other specimens **on the anchor's scanner**:

    ``-mean log( exp(u.v / tau) / (exp(u.v / tau) + sum_j exp(u.z_j^s / tau)) )``

    An offset that a scanner adds brings the negatives nearer to the anchor and not the positive, so the loss
    can only
    fall if the offset shrinks. With candidates of the other scanner it would be common to all and cancel.
    After
    Carloni et al. 2025, "ScanGen", arXiv 2507.22092 (the orientation is this project's reading).

    Parameters
    ----------
    z : torch.Tensor (specimens, scanners, p)
        Vectors of length 1; rows of NaN where a specimen lacks a scanner.
    tau : float
        Temperature.
    label : torch.Tensor (specimens,), optional
        Then specimens of the anchor's class are no negatives.

    Returns
    -------
    torch.Tensor
        A scalar.

    Examples
    --------
    >>> import torch
    >>> z = torch.nn.functional.normalize(torch.eye(4)[:, None].repeat(1, 2, 1), dim=-1)
    >>> float(scanner_contrast(z)) < 0.001
    True
    """
    import torch

    n_scanners = z.shape[1]
    there = torch.isfinite(z).all(-1)
    z = torch.where(there[..., None], z, torch.zeros_like(z))
    own = torch.einsum("isp,jsp->sij", z, z) / tau
    allowed = there.T[:, None, :] & there.T[:, :, None]
    allowed = allowed & ~torch.eye(len(z), dtype=torch.bool)
    if label is not None:
        allowed = allowed & (label[None, :, None] != label[None, None, :])
    negatives = torch.where(allowed, own, torch.full_like(own, -1e9)).transpose(0, 1)
    positive = torch.einsum("isp,itp->ist", z, z) / tau
    pair = there[:, :, None] & there[:, None, :] & ~torch.eye(n_scanners, dtype=torch.bool)
    together = torch.logaddexp(positive, torch.logsumexp(negatives, -1)[:, :, None])
    losses = (together - positive)[pair]
    return losses.mean() if len(losses) else z.sum() * 0.0
