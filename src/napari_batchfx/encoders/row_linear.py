"""A linear layer that gives a row the same bits whatever batch it is in."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

__all__ = ["RowLinear", "in_rows"]


class RowLinear(torch.nn.Linear):
    """``torch.nn.Linear`` one row at a time on the CPU.

    A matrix product adds up in another order for another number of rows, so that a tile's vector would depend
    on the batch it came in. A row by itself is a few thousand products: nothing beside the network.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Shape (n, d) to (n, k)."""
        if input.ndim != 2 or input.device.type != "cpu" or not len(input):
            return super().forward(input)
        return torch.stack([functional.linear(row, self.weight, self.bias) for row in input])


def in_rows(model: Any) -> Any:
    """The same timm model with its last layer, where that is linear, one row at a time; changed in place."""
    layer = model.get_classifier()
    if isinstance(layer, torch.nn.Linear):  # timm has a subclass of its own
        layer.__class__ = RowLinear
    return model
