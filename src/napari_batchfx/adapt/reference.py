"""What the training tiles looked like, small enough to travel with a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.row_order import row_order
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CompactReference", "DomainMatch", "SlideJudgement"]

MOST = 2000
FEWEST = 20
_COMPONENTS = 64


@dataclass(frozen=True)
class DomainMatch:
    """How a new slide relates to one known domain.

    Attributes
    ----------
    name : str
    told_apart : float
        Share of tiles that a classifier, held out from them, gives to the right one of the two; 0.5 is
        guessing.
    distance : float
        Between the mean of the slide and of the domain, in standard deviations of the domain (root mean
        square
        over components).
    percentile : float
        Share of the domain's own pieces of the same number of tiles that lie nearer to its mean, 0..100.
        Near 100 means
        further away than the domain's own variation.
    n : int
        Tiles of the domain in the reference.
    """

    name: str
    told_apart: float
    distance: float
    percentile: float
    n: int


@dataclass(frozen=True)
class SlideJudgement:
    """Whether a slide looks like what a classifier was trained on.

    Attributes
    ----------
    matches : list of DomainMatch
        Nearest first.
    n : int
        Tiles that were looked at.
    warnings : list of str
    """

    matches: list[DomainMatch]
    n: int
    warnings: list[str]

    @property
    def nearest(self) -> DomainMatch:
        """The domain that the slide is most like."""
        return self.matches[0]

    @property
    def is_unlike(self) -> bool:
        """Whether it is told from every known domain in 9 of 10 tiles and lies outside of the nearest."""
        return self.nearest.told_apart >= 0.9 and self.nearest.percentile >= 95

    @property
    def sentence(self) -> str:
        """One sentence for the person, before any prediction is believed."""
        best = self.nearest
        of_100 = round(100 * best.told_apart)
        if of_100 <= 60:
            return (
                f"Like {best.name}: a classifier can hardly tell them apart ({of_100} of 100 tiles, "
                "guessing 50)."
            )
        still = "still " if of_100 >= 75 else ""
        return (
            f"Most like {best.name}; a classifier {still}tells them apart in {of_100} of 100 tiles "
            "(guessing 50)."
        )


class CompactReference:
    """At most 2,000 feature vectors of each domain, rounded to half precision; no pixels, no names of slides.

    Names of domains (scanners, sites) are kept, as the head's own description has them; of slides and
    patients nothing.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0)
    >>> x = rng.normal(size=(400, 8)); x[200:, 0] += 4
    >>> obs = pandas.DataFrame({"scanner": numpy.repeat(["CS2", "S360"], 200)})
    >>> obs.index = obs.index.astype(str)
    >>> known = CompactReference.of(anndata.AnnData(x.astype("float32"), obs=obs), "scanner")
    >>> new = rng.normal(size=(150, 8)); new[:, 0] += 4
    >>> known.judge(new).sentence
    'Like S360: ...'
    """

    def __init__(
        self, domains: dict[str, NDArray[np.float16]], centre: NDArray[Any], scale: NDArray[Any]
    ) -> None:
        self._domains, self._centre, self._scale = domains, centre, scale

    @classmethod
    def of(cls, table: AnnData, batch: str = "site", *, most: int = MOST, seed: int = 0) -> CompactReference:
        """From a training table; ``most`` tiles a domain, chosen at random whatever the order of the rows."""
        x = np.asarray(feature_matrix(table), dtype=np.float32)
        codes, names = category_codes(table, batch)
        finite = np.isfinite(x).all(axis=1)
        if not names:
            codes, names = np.zeros(len(x), np.intp), ["the training tiles"]
        used = x[finite & (codes >= 0)].astype(np.float64)
        if not len(used):
            raise AdaptError("The table holds no tile with features to remember.")
        centre, scale = used.mean(axis=0), used.std(axis=0)
        scale[scale < 1e-12] = 1.0
        domains = {}
        for code, known in enumerate(names):
            name = shown_name(batch, code, known)
            rows = x[(codes == code) & finite]
            if len(rows):
                rows = rows[row_order(rows, seed)[: min(most, MOST)]]
                domains[name] = np.clip((rows - centre) / scale, -6e4, 6e4).astype(np.float16)
        return cls(domains, centre, scale)

    @property
    def names(self) -> list[str]:
        """Known domains."""
        return list(self._domains)

    def judge(self, features: NDArray[Any] | AnnData, *, seed: int = 0) -> SlideJudgement:
        """Compare the tiles of one new slide with every known domain.

        A two-sample test by classification (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample
        tests"):
        a linear classifier on the leading components, five folds, the same number of tiles of both.

        Parameters
        ----------
        features : float (n, d) or AnnData
            Of one slide, of the encoder that the head was trained on.

        Raises
        ------
        AdaptError
            With vectors of another length, or fewer than 20 tiles.
        """
        x = np.asarray(
            features if isinstance(features, np.ndarray) else feature_matrix(features), dtype=np.float64
        )
        if x.ndim != 2 or x.shape[1] != len(self._centre):
            raise AdaptError(
                f"The reference holds vectors of {len(self._centre)} numbers, the slide has {x.shape[-1]}: "
                "use the encoder that the classifier was trained on."
            )
        x = x[np.isfinite(x).all(axis=1)]
        if len(x) < FEWEST:
            raise AdaptError(
                f"{len(x)} tiles are too few to compare the slide with the training; encode {FEWEST}."
            )
        z = (x[row_order(x, seed)[:MOST]] - self._centre) / self._scale
        basis = self._basis()
        new = z @ basis
        matches, warnings = [], []
        for name, stored in self._domains.items():
            known = stored.astype(np.float64) @ basis
            if len(known) < FEWEST:
                warnings.append(f"{name} has {len(known)} tiles in the reference, too few to compare with.")
                continue
            n = min(len(new), len(known))
            told = _told_apart(new[:n], known[:n], seed)
            distance, percentile = _distance(new, known, seed)
            matches.append(DomainMatch(name, told, distance, percentile, len(known)))
        if not matches:
            raise AdaptError("No domain of the reference has enough tiles to compare a slide with.")
        matches.sort(key=lambda m: (round(m.told_apart, 2), m.distance))
        return SlideJudgement(matches, len(x), warnings)

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Description and arrays for a file."""
        arrays: dict[str, NDArray[Any]] = {"reference.centre": self._centre, "reference.scale": self._scale}
        arrays |= {f"reference.{i}": rows for i, rows in enumerate(self._domains.values())}
        return {"domains": self.names}, arrays

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> CompactReference:
        """What :meth:`to_state` gave."""
        domains = {name: arrays[f"reference.{i}"] for i, name in enumerate(facts["domains"])}
        return cls(domains, arrays["reference.centre"], arrays["reference.scale"])

    def _basis(self) -> NDArray[np.float64]:
        """Leading components of all domains in equal parts (d, k)."""
        parts = [rows.astype(np.float64) for rows in self._domains.values()]
        d = len(self._centre)
        second = np.zeros((d, d))
        for rows in parts:
            second += rows.T @ rows / (len(rows) * len(parts))
        values, vectors = np.linalg.eigh(second)
        k = int(min(_COMPONENTS, d, max(2, sum(map(len, parts)) // 4)))
        return np.asarray(vectors[:, np.argsort(values)[::-1][:k]])


def shown_name(batch: str, code: int, name: str) -> str:
    """Name of a domain in a file: scanners and sites as they are called, slides and patients by number."""
    return f"{batch} {code + 1}" if batch in ("slide", "patient") else name


def _told_apart(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> float:
    """Held-out balanced accuracy of a linear classifier between two sets of the same size."""
    x = np.concatenate([a, b])
    y = np.repeat([0.0, 1.0], [len(a), len(b)])
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(len(a)) % 5, rng.permutation(len(b)) % 5])
    right = np.zeros(len(x), bool)
    for k in range(5):
        test = fold == k
        one, other = x[~test & (y == 0)], x[~test & (y == 1)]
        middle = (one.mean(axis=0) + other.mean(axis=0)) / 2
        within = ((len(one) - 1) * np.cov(one.T) + (len(other) - 1) * np.cov(other.T)) / (
            len(one) + len(other) - 2
        )
        within = np.atleast_2d(within)
        # shrunk towards its mean variance, as a ridge: the components may be as many as the tiles
        gamma = min(0.9, x.shape[1] / (len(one) + len(other)))
        within = (1 - gamma) * within + gamma * np.trace(within) / len(within) * np.eye(len(within))
        direction = np.linalg.solve(within, other.mean(axis=0) - one.mean(axis=0))
        right[test] = ((x[test] - middle) @ direction > 0) == (y[test] == 1)
    return float((right[y == 0].mean() + right[y == 1].mean()) / 2)


def _distance(new: NDArray[np.float64], known: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Distance of the means, and the percentile of it among random pieces of the domain of that size."""
    rng = np.random.default_rng(seed)
    mean, sd = known.mean(axis=0), known.std(axis=0)
    sd = np.where(sd > 1e-12, sd, 1.0)

    def away(rows: NDArray[np.float64]) -> float:
        return float(np.sqrt((((rows.mean(axis=0) - mean) / sd) ** 2).mean()))

    own = [away(known[rng.integers(len(known), size=len(new))]) for _ in range(200)]
    distance = away(new)
    return distance, float(100 * np.mean(np.array(own) < distance))
