"""A classifier that learns to work with the statistics of the slide it meets."""

from __future__ import annotations

from napari_batchfx.adapt.heads.base import NeuralHead

__all__ = ["ARMBNHead"]


class ARMBNHead(NeuralHead):
    """Trained on steps of one domain each, so that it learns with the statistics it will be used with.

    Adaptive risk minimisation with batch normalisation, Zhang et al. 2021 (NeurIPS 34). It needs no controls,
    and an uneven mixture of classes in the new domain moves the statistics, and with them the predictions.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> from napari_batchfx.adapt import TrainingSettings
    >>> rng = numpy.random.default_rng(0); y = numpy.tile([0, 1], 320)
    >>> site = numpy.repeat(["A", "B", "C", "D"], 160)
    >>> x = rng.normal(size=(640, 6)); x[:, :3] += 3 * y[:, None]
    >>> x += 5 * rng.normal(size=(4, 6))[numpy.repeat(range(4), 160)]
    >>> obs = pandas.DataFrame({"label": numpy.where(y, "tumour", "normal"), "site": site})
    >>> obs["control"] = numpy.arange(640) // 2 % 2 == 0; obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x.astype("float32"), obs=obs)
    >>> seen, new = table[site != "D"].copy(), table[site == "D"].copy()
    >>> head = ARMBNHead(TrainingSettings(steps=60, hidden=(32, 16))).fit(seen)
    >>> bool((head.predict(new).label == new.obs["label"].to_numpy()).mean() > 0.9)
    True
    """

    kind = "armbn-head"
    method = "armbn"
    episodic = True
    with_controls = False
    way = "targets"
