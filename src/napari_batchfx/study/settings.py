"""What the user chose: the docks fill these models, the jobs read them, ``study.json`` keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from napari_batchfx.tiles import TissueSettings

__all__ = ["AdaptSettings", "EncodeSettings", "ProbeSettings", "Settings", "StainSettings", "TissueChoice"]

BatchColumn = Literal["site", "scanner", "stain", "slide", "patient"]
Polygon = list[tuple[float, float]]


def _stain_method(value: str) -> str:
    """The id of a stain method there is; the message lists them."""
    from napari_batchfx.errors import StainError
    from napari_batchfx.stain import method

    try:
        return method(value).id
    except StainError as error:
        raise ValueError(str(error)) from error


#: Id of a stain method, one of :func:`napari_batchfx.stain.methods`.
StainMethod = Annotated[str, AfterValidator(_stain_method)]
Excludable = Literal["pen", "edge", "fold", "blur"]
Classifier = Literal["logistic", "centroid", "knn", "linear"]


def _is_method(value: str) -> str:
    from napari_batchfx.adapt.methods import METHODS

    if value not in METHODS:
        raise ValueError(f"there is no correction {value!r}; choose of {', '.join(METHODS)}")
    return value


AdaptMethod = Annotated[str, AfterValidator(_is_method)]


def _is_head(value: str) -> str:
    from napari_batchfx.adapt.heads.offered import HEADS

    if value != "linear" and value not in HEADS:
        raise ValueError(f"there is no classifier {value!r}; choose of linear, {', '.join(HEADS)}")
    return value


AdaptHead = Annotated[str, AfterValidator(_is_head)]


class _Model(BaseModel):
    """Checks every value, also when it is assigned later; keys it doesn't know are an error, not ignored."""

    model_config = ConfigDict(validate_assignment=True, extra="forbid")


def _pen() -> list[Excludable]:
    return ["pen"]


class TissueChoice(_Model):
    """How tissue is found on all slides of a study (see :class:`napari_batchfx.tiles.TissueSettings`).

    It selects tiles; the features of a tile don't depend on it.

    Attributes
    ----------
    threshold : float or None
        Optical density above which a pixel counts; ``None`` = found for each slide.
    smooth_um : float
        Smoothing, micrometres.
    min_area_um2 : float
        Smaller tissue is dropped.
    fill_holes_um2 : float
        Smaller holes are filled.
    exclude : list of {"pen", "edge", "fold", "blur"}
        Artefacts that count as no tissue.
    """

    threshold: Annotated[float, Field(gt=0, le=3)] | None = None
    smooth_um: float = Field(default=8.0, ge=0, le=200)
    min_area_um2: float = Field(default=1000.0, ge=0, allow_inf_nan=False)
    fill_holes_um2: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    exclude: list[Excludable] = Field(default_factory=_pen)

    def settings(self) -> TissueSettings:
        """The same for :func:`napari_batchfx.tiles.tissue_mask`."""
        from napari_batchfx.tiles import TissueSettings

        return TissueSettings(
            self.threshold, self.smooth_um, self.min_area_um2, self.fill_holes_um2, tuple(self.exclude)
        )


class EncodeSettings(_Model):
    """How tiles are cut and turned into vectors.

    Attributes
    ----------
    encoder : str
        Name for :func:`napari_batchfx.encoders.load`.
    device, precision : str
        ``"auto"``, or as :func:`napari_batchfx.encoders.load` takes them.
    size_px : int or None
        Tile side in pixels at ``mpp``; ``None`` = the encoder's input.
    mpp : float or None
        Micrometres a pixel of the tiles; ``None`` = what the encoder was trained at.
    stride_px : int or None
        Step between tiles in pixels at ``mpp``; ``None`` = ``size_px`` (no overlap).
    min_tissue : float
        Least share of tissue (0..1) of a tile that is encoded when no cells are named.
    batch_size : int or None
        Tiles a batch; ``None`` = chosen by the device.
    normalizer : str or None
        Stain normalisation before the encoder: id of a method (:func:`napari_batchfx.stain.methods`).
    target : str or None
        Name of the slide whose stain is the target; ``None`` = the built-in reference.
    cohort : bool
        Aim at the average of all slides of the study instead (``target`` is not used).
    """

    encoder: str = Field(default="colour-statistics", min_length=1)
    device: str = "auto"
    precision: str = "auto"
    size_px: Annotated[int, Field(ge=16, le=8192)] | None = None
    mpp: Annotated[float, Field(gt=0, le=100)] | None = None
    stride_px: Annotated[int, Field(ge=1)] | None = None
    min_tissue: float = Field(default=0.25, ge=0, le=1)
    batch_size: Annotated[int, Field(ge=1)] | None = None
    normalizer: StainMethod | None = None
    target: str | None = None
    cohort: bool = False


class ProbeSettings(_Model):
    """What the site probe recognises, and how it is scored (see :func:`napari_batchfx.probe.site_probe`).

    Attributes
    ----------
    batch : {"site", "scanner", "stain", "slide", "patient"}
        What to recognise.
    group : {"patient", "slide", "site", "scanner", "stain"}
        What must not be split between training and test.
    n_splits, seed, permutations, n_bootstrap : int
        Folds, random seed, permutation baselines, bootstrap rounds.
    probe : {"logistic", "centroid", "knn", "linear"}
        The classifier: logistic regression, nearest centroid, nearest neighbours, the paper's linear layer.
    """

    batch: BatchColumn = "scanner"
    group: BatchColumn = "patient"
    n_splits: int = Field(default=5, ge=2, le=50)
    seed: int = 0
    permutations: int = Field(default=19, ge=0)
    n_bootstrap: int = Field(default=1000, ge=0)
    probe: Classifier = "logistic"

    def said(self) -> dict[str, Any]:
        """Plain values that a result is kept with.

        What came later (the classifier) is left out at its default, so that results from before stay current.
        """
        values = self.model_dump()
        return values if self.probe != "logistic" else {k: v for k, v in values.items() if k != "probe"}


class StainSettings(_Model):
    """The stain preview.

    Attributes
    ----------
    method : str
        How stain is estimated and normalised: id of a method (:func:`napari_batchfx.stain.methods`).
    target : str or None
        Name of the target slide; ``None`` = the built-in reference.
    cohort : bool
        Aim at the average of all slides of the study instead (``target`` is not used).
    regions : dict of str to list of polygon
        Slides (by name) whose stain is estimated in drawn regions only, as source and as target; each a list
        of polygons of (y, x) in level-0 pixels. Used by the encode settings too.
    strength : float
        0 = the slide as it is, 1 = fully normalised.
    """

    method: StainMethod = "macenko"
    target: str | None = None
    cohort: bool = False
    regions: dict[str, list[Polygon]] = Field(default_factory=dict)
    strength: float = Field(default=1.0, ge=0, le=1)


class AdaptSettings(_Model):
    """How predictions are adapted with control samples (see :func:`napari_batchfx.adapt.adapt_job`).

    Attributes
    ----------
    train_on : list of str
        Slide names, or values of ``batch``, whose labelled tiles train the head; empty = the first batch
        value that has labels.
    batch : {"site", "scanner", "stain", "slide", "patient"}
        What is corrected for.
    method : str
        The correction, an id of :data:`napari_batchfx.adapt.METHODS`; for the linear classifier only.
    head : str
        ``"linear"``, or a classifier that adapts by itself, an id of :data:`napari_batchfx.adapt.HEADS`.
    label : str
        Column of the table with the classes.
    group : {"patient", "slide", "site", "scanner", "stain"}
        What belongs together when accuracy is judged.
    seed : int
        Random seed.
    """

    train_on: list[str] = Field(default_factory=list)
    batch: BatchColumn = "scanner"
    method: AdaptMethod = "standardize"
    head: AdaptHead = "linear"
    label: str = Field(default="label", min_length=1)
    group: BatchColumn = "patient"
    seed: int = 0

    def said(self) -> dict[str, Any]:
        """Plain values that a result is kept with.

        What came later (the head) is left out at its default, so that results from before stay current.
        """
        values = self.model_dump()
        return values if self.head != "linear" else {k: v for k, v in values.items() if k != "head"}


class Settings(_Model):
    """All choices of a study, one model a step."""

    tissue: TissueChoice = Field(default_factory=TissueChoice)
    encode: EncodeSettings = Field(default_factory=EncodeSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    stain: StainSettings = Field(default_factory=StainSettings)
    adapt: AdaptSettings = Field(default_factory=AdaptSettings)
