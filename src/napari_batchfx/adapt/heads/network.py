"""Adaptation through a whole network with batch normalisation: images in, classes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.head import Prediction
from napari_batchfx.adapt.heads._network_files import read_network, write_network
from napari_batchfx.adapt.heads._network_training import train_network
from napari_batchfx.adapt.heads._norms import adapted, chunked, has_norms, norm_statistics
from napari_batchfx.adapt.heads.settings import TrainingPoint, TrainingSettings
from napari_batchfx.adapt.heads.statistics import trust
from napari_batchfx.adapt.row_order import row_order
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Job, run

__all__ = ["NETWORK_METHODS", "AdaptiveNetwork"]

NETWORK_METHODS = ("erm", "adabn", "armbn", "csarmbn")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class AdaptiveNetwork:
    """A convolutional classifier whose batch normalisations take the statistics of the slide they meet.

    ``adabn`` trains as usual and takes the statistics of the new domain's tiles; ``armbn`` trains on steps of
    one domain each, so that it learns to work with such statistics; ``csarmbn`` adds control tiles of that
    domain to every step and to the statistics, which keeps an uneven mixture of classes from moving them
    (Sanchez-Fernandez et al. 2026, arXiv 2604.20824); ``erm`` doesn't adapt.

    Parameters
    ----------
    model : str or torch.nn.Module
        A timm name ("resnet10t"), "batchfx-mini", or a network of your own that gives logits (n, classes).
    method : {"csarmbn", "armbn", "adabn", "erm"}
    settings : TrainingSettings, optional
    mean, std : (float, float, float), optional
        Of the pixels in 0..1, as the network expects them; its own for batchfx-mini, else those of ImageNet.

    Attributes
    ----------
    classes : tuple of str
    curve : list of TrainingPoint

    Raises
    ------
    AdaptError
        If the network has no batch normalisation (then use a head on its features), or isn't known.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y, domain = np.tile([0, 1], 24), np.repeat([0, 1], 24)
    >>> tiles = rng.integers(90, 110, (48, 32, 32, 3)) + 60 * y[:, None, None, None]
    >>> settings = TrainingSettings(targets=8, controls=8, domains=1, steps=2, every=1)
    >>> network = AdaptiveNetwork("resnet10t", "armbn", settings)
    >>> network = network.fit(tiles.astype(np.uint8), y.astype(str), domain.astype(str))
    >>> network.classes, network.predict(tiles.astype(np.uint8)).proba.shape
    (('0', '1'), (48, 2))
    """

    def __init__(
        self,
        model: Any = "batchfx-mini",
        method: str = "csarmbn",
        settings: TrainingSettings | None = None,
        *,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
    ) -> None:
        if method not in NETWORK_METHODS:
            raise AdaptError(f"There is no method {method!r}; there are {', '.join(NETWORK_METHODS)}.")
        self.method, self.settings = method, settings or TrainingSettings()
        usual = _pixel_scale(model)
        self.mean, self.std = mean or usual[0], std or usual[1]
        self.name = model if isinstance(model, str) else type(model).__name__
        self.classes: tuple[str, ...] = ()
        self.curve: list[TrainingPoint] = []
        self.warnings: list[str] = []
        self.input_px = 0
        self.provenance: dict[str, Any] = {}
        self._given = model
        self._model: Any = None

    @property
    def module(self) -> Any:
        """The trained network, in evaluation mode with the statistics of its training."""
        self._check_trained()
        return self._model

    def fit(
        self,
        tiles: NDArray[np.uint8],
        labels: Sequence[str] | NDArray[Any],
        domain: Sequence[str] | NDArray[Any],
        controls: npt.ArrayLike | None = None,
        groups: Sequence[str] | NDArray[Any] | None = None,
    ) -> Self:
        """Train to the end; see :meth:`fit_job`."""
        run(self.fit_job(tiles, labels, domain, controls, groups))
        return self

    def fit_job(
        self,
        tiles: NDArray[np.uint8],
        labels: Sequence[str] | NDArray[Any],
        domain: Sequence[str] | NDArray[Any],
        controls: npt.ArrayLike | None = None,
        groups: Sequence[str] | NDArray[Any] | None = None,
    ) -> Job[AdaptiveNetwork]:
        """Train, yielding after every step; closed early, the best weights so far are kept.

        Parameters
        ----------
        tiles : uint8 (n, h, w, 3)
        labels : n str
            "" where a tile has no class.
        domain : n str
            Slide, scanner or site.
        controls : bool (n,), optional
            Needed for ``csarmbn``.
        groups : n str, optional
            Patients or slides that validation holds out whole.

        Raises
        ------
        AdaptError
            With fewer than two classes, or a training domain without enough controls.
        """
        import torch

        images = _images(tiles)
        text = np.asarray([str(v) for v in labels], dtype=object)
        classes = tuple(sorted(set(text) - {""}))
        if len(classes) < 2:
            raise AdaptError("The training tiles hold fewer than two classes: label tiles of at least two.")
        torch.manual_seed(self.settings.seed)
        self._model = _build(self._given, len(classes))
        if not has_norms(self._model):
            raise AdaptError(
                f"{self.name} has no batch normalisation, so there are no statistics to adapt: train a head "
                "on its features instead."
            )
        self.classes, self.curve, self.input_px = classes, [], images.shape[1]
        y = np.array([classes.index(v) if v else -1 for v in text], dtype=np.intp)
        names, codes = np.unique(np.asarray([str(v) for v in domain], dtype=object), return_inverse=True)
        mask = np.zeros(len(y), bool) if controls is None else np.asarray(controls, dtype=bool)
        group = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
        self.provenance = {
            "tiles": {c: int((y == i).sum()) for i, c in enumerate(classes)},
            "domains": [str(n) for n in names],
            "controls": int(mask.sum()),
        }
        yield from train_network(self, images, y, codes.astype(np.intp), mask, group.astype(np.intp))
        return self

    def predict(
        self,
        tiles: NDArray[np.uint8],
        controls: npt.ArrayLike | None = None,
        *,
        way: str = "auto",
        context: int = 64,
        seed: int = 0,
        chunk: int = 64,
    ) -> Prediction:
        """Classes of the tiles of **one** domain (a slide, a scanner).

        Parameters
        ----------
        tiles : uint8 (n, h, w, 3)
            Control tiles among them.
        controls : bool (n,), optional
        way : {"auto", "source", "controls", "mixed", "targets"}
            Where the statistics come from. "auto" is what the method was made for.
        context : int
            Most target tiles that take part in the statistics (twice as many controls with "mixed").
        seed : int
            Of the choice of tiles for the statistics.
        chunk : int
            Tiles that go through the network at once; no result depends on it.
        """
        self._check_trained()
        images = _images(tiles)
        mask = np.zeros(len(images), bool) if controls is None else np.asarray(controls, dtype=bool)
        chosen = _WAYS[self.method] if way == "auto" else way
        rows, weight, note = context_rows(images, mask, chosen, context, seed)
        self.warnings = [note] if note else []
        if not len(rows):
            return self._predict(self._model, images, chunk)
        found = norm_statistics(self._model, self._chunks(images[rows], max(chunk, 256)))
        with adapted(self._model, found, weight):
            return self._predict(self._model, images, chunk)

    def save(self, path: str | Path) -> Path:
        """Write weights, statistics and their description as one safetensors file."""
        self._check_trained()
        return write_network(self, path)

    @classmethod
    def load(cls, path: str | Path, model: Any = None) -> AdaptiveNetwork:
        """Read what :meth:`save` wrote; a network of your own is given again as ``model``."""
        return read_network(cls, path, model)

    def _check_trained(self) -> None:
        if self._model is None or not self.classes:
            raise AdaptError("The network has not been trained yet: train it or load one.")

    def _chunks(self, images: NDArray[np.uint8], chunk: int) -> list[Any]:
        return chunked(images, chunk, self.mean, self.std)

    def _predict(self, model: Any, images: NDArray[np.uint8], chunk: int) -> Prediction:
        import torch

        model.eval()
        with torch.no_grad():
            parts = [
                torch.softmax(model(x).double(), 1).numpy()
                for start in range(0, len(images), chunk)
                for x in self._chunks(images[start : start + chunk], chunk)
            ]
        return Prediction.from_proba(self.classes, np.concatenate(parts))


_WAYS: Mapping[str, str] = {"erm": "source", "adabn": "targets", "armbn": "targets", "csarmbn": "mixed"}


def context_rows(
    x: NDArray[Any], control: NDArray[np.bool_], way: str, context: int, seed: int
) -> tuple[NDArray[np.intp], float, str]:
    """Rows that the statistics of one domain come from, how far they are trusted, and what to say about it.

    With "mixed", two controls for each target; the choice is random but independent of the order of the rows.
    """
    if way == "source":
        return np.zeros(0, np.intp), 0.0, ""
    if way not in ("controls", "targets", "mixed"):
        raise AdaptError(f"There are the ways source, controls, targets and mixed, not {way!r}.")
    order = row_order(x.reshape(len(x), -1), seed)
    targets, controls = order[~control[order]], order[control[order]]
    if way == "targets":
        rows = targets[:context]
        weight = trust(len(rows), enough=1, least=2)
        return (rows, weight, "") if weight else (rows[:0], 0.0, "One tile has no statistics of its own.")
    n = len(controls)
    weight = trust(n)
    note = ""
    if weight == 0.0:
        note = f"{n} control samples are too few to adapt to (16 at least): predicted without adaptation."
        return controls[:0], 0.0, note
    if weight < 1.0:
        note = (
            f"{n} control samples are few (64 or more are steady): their statistics count {weight:.0%}, "
            "those of the training the rest."
        )
    if way == "controls":
        return controls, weight, note
    n_targets = min(context, len(targets), n // 2)
    return (
        np.concatenate([controls[: max(2 * n_targets, min(n, 2 * context))], targets[:n_targets]]),
        weight,
        note,
    )


def _images(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    images = np.asarray(tiles)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise AdaptError("Tiles must be uint8 images (n, height, width, 3).")
    return images


def _pixel_scale(model: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the pixels that a network was trained with, as far as is known."""
    if not isinstance(model, str) or model != "batchfx-mini":
        return IMAGENET
    from napari_batchfx.encoders.built_in import mini_files

    config = mini_files().pretrained_cfg
    mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _build(model: Any, n_classes: int) -> Any:
    if not isinstance(model, str):
        return model
    import timm

    if model == "batchfx-mini":
        from napari_batchfx.encoders.built_in import MINI_WEIGHTS

        net = timm.create_model("mobilenetv4_conv_small", num_classes=n_classes)
        return _with_weights(net, MINI_WEIGHTS)
    if ":" in model or "/" in model or not timm.is_model(model):
        raise AdaptError(
            f"timm knows no network {model!r}: give one of timm.list_models(), or the network itself."
        )
    return timm.create_model(model, num_classes=n_classes)


def _with_weights(net: Any, path: Path) -> Any:
    from safetensors.torch import load_file

    found = load_file(str(path))
    # what it was trained to tell is not what it is to tell now
    weights = {
        k: v.float() if v.is_floating_point() else v
        for k, v in found.items()
        if not k.startswith("classifier")
    }
    missing, _ = net.load_state_dict(weights, strict=False)
    if any(not name.startswith("classifier") for name in missing):
        raise AdaptError("batchfx-mini: its weights don't fit the installed timm; update timm.")
    return net
