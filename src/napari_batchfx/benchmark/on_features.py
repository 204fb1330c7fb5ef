"""Every method on frozen features: fitted once on the training domains, then asked about new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt import HEADS, Correction, ERMHead, TrainingSettings, make_correction
from napari_batchfx.benchmark.tent import tent

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CORRECTIONS", "FEATURE_METHODS", "Fitted", "as_table", "reduce"]

CORRECTIONS = ("standardize", "tvn", "coral", "combat")
FEATURE_METHODS = (
    "erm",
    *CORRECTIONS,
    "mlp",
    "dann",
    "tent",
    "adabn",
    "armbn",
    "csarmbn",
    "csarmbn, controls only",
    "csarmbn, classes as they come",
)
SETTINGS = TrainingSettings(
    hidden=(128, 64), steps=120, patience=60, every=10, domains=6, dropout=0.5, decay=1e-2
)


def as_table(
    x: NDArray[np.float32],
    label: NDArray[Any],
    domain: NDArray[Any] | str,
    control: NDArray[np.bool_],
    unit: NDArray[Any],
) -> AnnData:
    """Rows as a table with ``site`` as the domain and ``patient`` as what belongs together."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame({"label": label, "site": domain, "control": control, "patient": unit})
    obs.index = obs.index.astype(str)
    return anndata.AnnData(np.asarray(x, np.float32), obs=obs)


def reduce(train: NDArray[np.float32], n: int = 128) -> Any:
    """A map to the space of the leading components of the training rows: what makes many fits affordable.

    The components are turned at random within their space: left alone, the first normalisation of a head
    would give the last of them, which are noise, the spread of the first.
    """
    mean, sd = train.mean(axis=0), train.std(axis=0) + 1e-6
    _, _, vt = np.linalg.svd((train - mean) / sd, full_matrices=False)
    k = min(n, len(vt))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(k, k)))[0]
    basis = vt[:k].T @ turn

    def apply(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((x - mean) / sd @ basis, np.float32)

    return apply


class Fitted:
    """All methods fitted on a training table (``site``, ``label``, ``control``, ``patient``).

    Parameters
    ----------
    train : anndata.AnnData
    seed : int
    methods : tuple of str
    """

    def __init__(self, train: AnnData, seed: int, methods: tuple[str, ...] = FEATURE_METHODS) -> None:
        from dataclasses import replace

        self.seed, self._train = seed, train
        self._heads: dict[str, Any] = {}
        self._corrections: dict[str, Correction] = {}
        self.failed: dict[str, str] = {}
        settings = replace(SETTINGS, seed=seed)
        labelled = train[(train.obs["label"] != "").to_numpy()].copy()
        for method in methods:
            if method == "erm":
                self._heads[method] = ERMHead(seed=seed).fit(labelled)
            elif method in CORRECTIONS:
                correction = make_correction(method).fit(train, "site")
                corrected = correction.transform(train)
                self._corrections[method] = correction
                # the penalty chosen on the features as they are
                self._heads[method] = ERMHead(c=self._heads["erm"].c, seed=seed).fit(
                    corrected[(train.obs["label"] != "").to_numpy()].copy()
                )
            elif method in ("tent", "adabn", "csarmbn, controls only"):
                continue  # other statistics or scales of the plain head's weights
            elif method == "csarmbn, classes as they come":
                self._heads[method] = HEADS["csarmbn"](replace(settings, label_shift=False)).fit(train)
            else:
                self._heads[method] = HEADS[method](settings).fit(train)
        self.methods = methods

    def predict(self, test: AnnData, method: str, context: int | None = None) -> NDArray[np.float64]:
        """Probabilities (n, classes) of a table of one new domain; labels are taken off before."""
        blind = test.copy()
        blind.obs["label"] = ""
        if method in CORRECTIONS:
            correction = self._corrections[method]
            if set(blind.obs["site"]) - set(correction.batches):
                correction = _with(correction, self._train, blind)
            return np.asarray(self._heads[method].predict(correction.transform(blind)).proba)
        if method in ("tent", "adabn"):
            head = self._heads["mlp"]
            if method == "tent":
                rows = ~blind.obs["control"].to_numpy()
                return tent(head, np.asarray(blind.X), np.flatnonzero(rows), context or 1024, self.seed)
            return np.asarray(head._predict(blind, None, None, "targets", context, self.seed)[0].proba)
        if method == "erm":
            return np.asarray(self._heads[method].predict(blind).proba)
        if method == "csarmbn, controls only":
            return np.asarray(self._heads["csarmbn"].predict_ways(blind, seed=self.seed).controls.proba)
        # where there are controls, all of them and half as many tiles at most
        most = None if self._heads[method].with_controls else context
        return np.asarray(self._heads[method].predict(blind, context=most, seed=self.seed).proba)


def _with(correction: Correction, train: AnnData, test: AnnData) -> Correction:
    """The correction with a new batch fitted on its controls; the original stays as it is."""
    import copy

    further = copy.deepcopy(correction)
    try:
        return further.add_batches(test)
    except NotImplementedError:
        import anndata

        return further.fit(anndata.concat([train, test]), "site")
