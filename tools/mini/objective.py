"""What the network is trained for: to know two views of a place among all others, and to say how a view is coloured."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Learner(nn.Module):
    """The network, the projector and the head for what is told; the last two are thrown away after the training."""

    def __init__(self, architecture: str, told: int = 63, hidden: int = 1024, out: int = 256) -> None:
        import timm

        super().__init__()
        self.network = timm.create_model(architecture, pretrained=False, num_classes=0)
        dim = self.network.conv_head.out_channels
        self.projector = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out, bias=False),
            nn.BatchNorm1d(out, affine=False),
        )

        self.head = nn.Linear(dim, told)  # linear: the vector itself has to hold them

    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Views (n, 3, px, px) to projections (n, out) and what is told of them (n, told)."""
        vectors = self.network(views)
        return self.projector(vectors), self.head(vectors)


def contrast(z: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    """NT-Xent of projections (2 n, d), row i and row i + n being of one place (Chen et al. 2020, SimCLR, eq. 1)."""
    z = functional.normalize(z.float(), dim=1)
    n = len(z) // 2
    similar = z @ z.T / temperature
    similar.fill_diagonal_(-1e4)
    other = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(z.device)
    return functional.cross_entropy(similar, other)


def vicreg(
    z: torch.Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> torch.Tensor:
    """Bardes et al. 2022, VICReg, eq. 6, of projections (2 n, d)."""
    a, b = z.float().chunk(2)
    loss = invariance * functional.mse_loss(a, b)
    for part in (a, b):
        centred = part - part.mean(0)
        spread = torch.sqrt(centred.var(0) + 1e-4)
        loss = loss + variance / 2 * functional.relu(1 - spread).mean()
        cov = centred.T @ centred / (len(part) - 1)
        loss = loss + covariance * (cov.square().sum() - cov.diagonal().square().sum()) / part.shape[1]
    return loss


OBJECTIVES = {"contrast": contrast, "vicreg": vicreg}
