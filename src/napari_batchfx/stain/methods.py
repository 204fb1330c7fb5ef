"""The stain methods there are, as data: what to call them, what they do, which class does it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from napari_batchfx.errors import StainError

if TYPE_CHECKING:
    from napari_batchfx.stain.normalizer import Normalizer

__all__ = ["METHODS", "StainMethod", "method", "methods"]


@dataclass(frozen=True)
class StainMethod:
    """One way to normalise stain.

    Parameters
    ----------
    id : str
        What settings, files and the command line call it.
    label : str
        What people call it.
    sentence : str
        What it does, in one sentence.
    where : str
        Module of its class, and the class.
    kind : {"H&E", "H-DAB", "any"}
        Stains it is for: "any" takes H&E and H-DAB and tells them apart.
    has_vectors : bool
        Whether it separates stains (then there are H and E channels and vectors to plot), or matches colour
        as a whole.
    several_targets : bool
        Whether it aims at the average of several slides.
    seconds : float
        About how long an estimate of one slide takes on two cores, reading included.
    estimated_as : str
        The method whose estimate it uses, where that isn't its own.

    Examples
    --------
    >>> method("macenko").label, method("macenko").normalizer.__name__
    ('Macenko', 'MacenkoNormalizer')
    """

    id: str
    label: str
    sentence: str
    where: str
    kind: str = "any"
    has_vectors: bool = True
    several_targets: bool = False
    seconds: float = 1.0
    estimated_as: str = ""

    @property
    def estimator(self) -> str:
        """The method whose estimate of a slide it uses: its own, mostly."""
        return self.estimated_as or self.id

    @property
    def normalizer(self) -> type[Normalizer[Any]]:
        """The class: ``normalizer(target=None, strength=1.0)``."""
        module, name = self.where.rsplit(":", 1)
        found: type[Normalizer[Any]] = getattr(import_module(f"napari_batchfx.stain.{module}"), name)
        return found


METHODS: Final[tuple[StainMethod, ...]] = (
    StainMethod(
        "macenko",
        "Macenko",
        "Finds the colours of haematoxylin and eosin (or DAB) on the slide and swaps them, and how strong "
        "they are, for those of the target.",
        "macenko:MacenkoNormalizer",
    ),
    StainMethod(
        "macenko-cohort",
        "Macenko, several targets",
        "Macenko's method towards the average of several slides, so that no single slide sets the look.",
        "macenko:MultiTargetMacenkoNormalizer",
        several_targets=True,
        estimated_as="macenko",
    ),
    StainMethod(
        "vahadane",
        "Vahadane",
        "Like Macenko, with the colours found by sparse factorisation: slower, less swayed by pixels where "
        "both stains overlap.",
        "vahadane:VahadaneNormalizer",
        seconds=5.0,
    ),
    StainMethod(
        "density",
        "Densest colours",
        "Like Macenko, from the most frequent colours of ten tiles and their median: the estimate of the "
        "staining-robustness protocol, and what simulated staining conditions use.",
        "density:DensityNormalizer",
        kind="H&E",
        seconds=3.0,
    ),
    StainMethod(
        "ruifrok",
        "Ruifrok (fixed colours)",
        "Takes the textbook colours of the stains for granted and matches only how strong each is; works "
        "where a slide holds hardly any of one stain.",
        "ruifrok:RuifrokNormalizer",
    ),
    StainMethod(
        "reinhard",
        "Reinhard",
        "Matches mean and spread of the tissue's colour to the target's, without separating stains.",
        "reinhard:ReinhardNormalizer",
        has_vectors=False,
    ),
    StainMethod(
        "modified-reinhard",
        "Reinhard, keeping contrast",
        "Shifts the tissue's mean colour to the target's and never flattens its contrast.",
        "reinhard:ModifiedReinhardNormalizer",
        has_vectors=False,
    ),
)


def methods() -> tuple[StainMethod, ...]:
    """All stain methods, in the order to offer them.

    Examples
    --------
    >>> [one.id for one in methods()][0]
    'macenko'
    """
    return METHODS


def method(name: str) -> StainMethod:
    """A stain method by its id.

    Raises
    ------
    StainError
        If there is none of this name; the sentence lists those there are.

    Examples
    --------
    >>> method("reinhard").has_vectors
    False
    """
    for one in METHODS:
        if one.id == name:
            return one
    known = ", ".join(one.id for one in METHODS)
    raise StainError(f"There is no stain method called {name!r}; choose one of {known}.")
