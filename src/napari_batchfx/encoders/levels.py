"""A vector that is read from every level of a convolutional network, not from its last one alone."""

from __future__ import annotations

from typing import Any

import torch

from napari_batchfx.encoders.row_linear import RowLinear

__all__ = ["LevelPooled", "has_levels", "level_statistics", "read_levels"]


class LevelPooled:
    """What :func:`read_levels` adds to a timm network: a ``forward`` that reads all of its levels."""

    conv_stem: Any
    bn1: Any
    blocks: Any
    classifier: Any

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, h, w) to vectors (n, projected)."""
        result: torch.Tensor = self.classifier(level_statistics(self, x))
        return result


def has_levels(model: Any) -> bool:
    """Whether a timm network has the parts that :func:`level_statistics` walks through.

    MobileNets and EfficientNets have them.

    Examples
    --------
    >>> import timm
    >>> has_levels(timm.create_model("mobilenetv4_conv_small")), has_levels(timm.create_model("test_vit"))
    (True, False)
    """
    return all(hasattr(model, name) for name in ("conv_stem", "bn1", "blocks", "forward_head", "classifier"))


def level_statistics(model: Any, x: torch.Tensor) -> torch.Tensor:
    """The network's own pooled features, then mean and standard deviation of every channel of every level.

    Levels are the stem and each stage. Deep features say what is where; those of the first levels say how
    strong, how sharp and how varied the stain is, which the last level has given up for the most part (the
    channels' means and deviations are what "style" is in style transfer: Huang & Belongie 2017, eq. 5, 6).

    Parameters
    ----------
    model : torch.nn.Module
        With :func:`has_levels`.
    x : float tensor (n, 3, h, w)

    Returns
    -------
    float tensor (n, features + 2 x channels of all levels)

    Examples
    --------
    >>> import timm
    >>> network = timm.create_model("mobilenetv4_conv_small").eval()
    >>> with torch.inference_mode():
    ...     tuple(level_statistics(network, torch.rand(2, 3, 64, 64)).shape)
    (2, 3904)
    """
    x = model.bn1(model.conv_stem(x))
    levels = [x]
    for stage in model.blocks:
        x = stage(x)
        levels.append(x)
    parts = [model.forward_head(x, pre_logits=True).float()]
    for level in levels:
        level = level.float()
        # the mean of squares less the square of the mean: a tenth of the time of torch.std on the CPU
        mean = level.mean((2, 3))
        parts += [mean, ((level * level).mean((2, 3)) - mean * mean).clamp_min(0).sqrt()]
    return torch.cat(parts, 1)


def read_levels(model: Any, projected: int) -> Any:
    """The same network, changed in place: its last layer reads :func:`level_statistics`.

    Parameters
    ----------
    model : torch.nn.Module
        With :func:`has_levels`.
    projected : int
        Length of the vector.

    Examples
    --------
    >>> import timm
    >>> network = read_levels(timm.create_model("mobilenetv4_conv_small").eval(), 96)
    >>> with torch.inference_mode():
    ...     tuple(network(torch.rand(2, 3, 64, 64)).shape)
    (2, 96)
    """
    was_training = model.training
    with torch.inference_mode():
        width = level_statistics(model.eval(), torch.zeros(1, 3, 64, 64)).shape[1]
    model.train(was_training)
    model.classifier = RowLinear(width, projected)
    kind = type(model)
    model.__class__ = type(f"LevelPooled{kind.__name__}", (LevelPooled, kind), {})
    return model
