"""How a head is trained, and what its training says on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_batchfx.errors import AdaptError

__all__ = ["TrainingPoint", "TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """Numbers of a training.

    Attributes
    ----------
    targets, controls : int
        Labelled and control tiles of a domain in a step.
    domains : int
        Domains whose gradients make one step of the optimiser.
    steps, patience : int
        Most steps, and steps without a better validation loss after which it stops.
    every : int
        Steps between two validations.
    rate, decay : float
        Of Adam: learning rate and weight decay.
    hidden : (int, int)
        Widths of the two hidden layers of a head.
    dropout : float
    label_shift : bool
        Draw the mixture of classes of each step anew (Dirichlet).
    seed : int
        Of weights, draws and the validation part.
    """

    targets: int = 64
    controls: int = 128
    domains: int = 8
    steps: int = 240
    patience: int = 80
    every: int = 10
    rate: float = 1e-3
    decay: float = 1e-4
    hidden: tuple[int, int] = (512, 128)
    dropout: float = 0.1
    label_shift: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.targets, self.domains, self.steps, self.every, *self.hidden) < 1 or self.controls < 0:
            raise AdaptError("A training needs at least one target, domain, step and hidden unit.")
        if not (self.rate > 0 and 0 <= self.dropout < 1):
            raise AdaptError("The learning rate must be above 0 and the dropout in 0 to 1.")

    def facts(self) -> dict[str, Any]:
        """For a file's header."""
        return {**asdict(self), "hidden": list(self.hidden)}


@dataclass(frozen=True)
class TrainingPoint:
    """One point of the loss curve.

    Attributes
    ----------
    step : int
    loss : float
        Mean training loss since the last point.
    validation : float
        Loss on tiles that are not trained on, with the statistics that would be used on a new slide.
    best : float
        Lowest validation loss so far; the weights of that step are kept.
    """

    step: int
    loss: float
    validation: float
    best: float
