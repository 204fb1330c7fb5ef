"""A classifier that takes the statistics of the slide it meets."""

from __future__ import annotations

from napari_batchfx.adapt.heads.base import NeuralHead

__all__ = ["AdaBNHead"]


class AdaBNHead(NeuralHead):
    """Trained as usual; at prediction the normalisations take mean and variance of the new domain's tiles.

    Li et al. 2018, "Adaptive batch normalization", Pattern Recognition 80. It needs no controls, and a slide
    with another mixture of classes than the training moves the statistics, and with them the predictions.

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
    >>> head = AdaBNHead(TrainingSettings(steps=60, hidden=(32, 16))).fit(seen)
    >>> bool((head.predict(new).label == new.obs["label"].to_numpy()).mean() > 0.9)
    True
    """

    kind = "adabn-head"
    method = "adabn"
    episodic = False
    with_controls = False
    way = "targets"
