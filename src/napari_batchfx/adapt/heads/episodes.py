"""Which tiles a training step sees: targets and controls of one domain, classes mixed anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpisodeSampler"]

_CLASS_MIX = (0.05, 10.0)


class EpisodeSampler:
    """Draws the rows of training steps; it knows indices only, so heads and whole networks share it.

    Parameters
    ----------
    y : int (n,)
        Class, -1 where there is none.
    domain : int (n,)
        Domain (slide, scanner, site), -1 where it isn't known.
    control : bool (n,)
    rows : int (m,)
        Rows that may be drawn.
    n_targets, n_controls : int
        Labelled and control rows of a step; 0 controls for methods without.
    label_shift : bool
        Draw the classes of a step from a Dirichlet distribution whose concentration is log-uniform in
        0.05 to 10, instead of classes in equal parts.
    seed : int

    Examples
    --------
    >>> y, domain = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    >>> control = np.arange(40) % 4 == 0
    >>> draw = EpisodeSampler(y, domain, control, np.arange(40), n_targets=6, n_controls=4)
    >>> targets, controls = draw.episode(1)
    >>> len(targets), len(controls), set(domain[targets].tolist()), bool(control[controls].all())
    (6, 4, {1}, True)
    """

    def __init__(
        self,
        y: NDArray[np.intp],
        domain: NDArray[np.intp],
        control: NDArray[np.bool_],
        rows: NDArray[np.intp],
        *,
        n_targets: int = 64,
        n_controls: int = 128,
        label_shift: bool = True,
        seed: int = 0,
    ) -> None:
        self.n_targets, self.n_controls, self.label_shift = n_targets, n_controls, label_shift
        self._rng = np.random.default_rng(seed)
        labelled = rows[(y[rows] >= 0) & (domain[rows] >= 0)]
        self.domains = [int(d) for d in np.unique(domain[labelled])]
        self.n_classes = int(y.max()) + 1
        self._by_class = {
            d: [labelled[(domain[labelled] == d) & (y[labelled] == c)] for c in range(self.n_classes)]
            for d in self.domains
        }
        with_domain = rows[domain[rows] >= 0]
        self._controls = {
            d: with_domain[(domain[with_domain] == d) & control[with_domain]] for d in self.domains
        }

    def controls_of(self, domain: int) -> NDArray[np.intp]:
        """Every control row of a domain."""
        found: NDArray[np.intp] = self._controls[domain]
        return found

    def some_domains(self, n: int) -> list[int]:
        """``n`` domains, each as often as the others but for one draw."""
        order: list[int] = []
        while len(order) < n:
            order += [int(d) for d in self._rng.permutation(self.domains)]
        return order[:n]

    def episode(self, domain: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Targets (``n_targets``,) and controls (``n_controls``,) of a domain, no row in both if possible."""
        rng = self._rng
        pool = self._controls[domain]
        controls = pool[:0]
        if self.n_controls and len(pool):
            controls = rng.choice(pool, self.n_controls, replace=len(pool) < self.n_controls)
        by_class = [members for members in self._by_class[domain] if len(members)]
        share = np.full(len(by_class), 1.0 / len(by_class))
        if self.label_shift and len(by_class) > 1:
            low, high = np.log(_CLASS_MIX)
            alpha = float(np.exp(rng.uniform(low, high)))
            drawn = rng.dirichlet(np.full(len(by_class), alpha))
            share = drawn / drawn.sum() if np.isfinite(drawn).all() and drawn.sum() > 0 else share
        counts = rng.multinomial(self.n_targets, share)
        parts = []
        for members, n in zip(by_class, counts, strict=True):
            free = members[~np.isin(members, controls)] if len(controls) else members
            free = free if len(free) else members
            if n:
                parts.append(rng.choice(free, n, replace=len(free) < n))
        return np.concatenate(parts), controls

    def mixed(self, n: int) -> NDArray[np.intp]:
        """``n`` labelled rows of all domains; domains count the same, and classes within them."""
        rng = self._rng
        cells = [members for d in self.domains for members in self._by_class[d] if len(members)]
        weight = np.concatenate(
            [
                [1.0 / (len(self.domains) * sum(len(m) > 0 for m in self._by_class[d]))]
                * sum(len(m) > 0 for m in self._by_class[d])
                for d in self.domains
            ]
        )
        counts = rng.multinomial(n, weight / weight.sum())
        return np.concatenate(
            [rng.choice(m, k, replace=len(m) < k) for m, k in zip(cells, counts, strict=True) if k]
        )
