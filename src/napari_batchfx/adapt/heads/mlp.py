"""A classifier with two hidden layers, trained on all domains at once."""

from __future__ import annotations

from napari_batchfx.adapt.heads.base import NeuralHead

__all__ = ["MLPHead"]


class MLPHead(NeuralHead):
    """Two hidden layers on frozen features (empirical risk minimisation): what doesn't adapt.

    It is predicted with the statistics of its training, whatever slide it meets.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> from napari_batchfx.adapt import TrainingSettings
    >>> y = numpy.tile([0, 1], 80)
    >>> x = numpy.random.default_rng(0).normal(size=(160, 6)).astype("float32")
    >>> x[:, :3] += 4 * y[:, None]
    >>> obs = pandas.DataFrame({"label": numpy.where(y, "tumour", "normal")})
    >>> obs["site"] = numpy.repeat(["A", "B"], 80); obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x, obs=obs)
    >>> head = MLPHead(TrainingSettings(steps=60, hidden=(32, 16), rate=1e-2)).fit(table)
    >>> bool((head.predict(table).label == obs["label"].to_numpy()).mean() > 0.95)
    True
    """

    kind = "mlp-head"
    method = "mlp"
