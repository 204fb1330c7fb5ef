"""Take names of slides and patients out of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_batchfx.features.table import provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["mask_table"]


def mask_table(table: AnnData, slides: Mapping[str, str], patients: Mapping[str, str]) -> AnnData:
    """A copy of a table in which slides and patients are numbers.

    Parameters
    ----------
    table : AnnData
        As of :func:`napari_batchfx.features.make_table`.
    slides, patients : mapping of str to str
        What each name is called instead; a name that isn't in it becomes "slide" or "patient".

    Returns
    -------
    AnnData
        ``obs_names``, the columns slide, patient and pair, and ``uns["batchfx"]["slides"]`` hold the new
        names; content fingerprints stay, so that whoever has the slides can tell them.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> obs = pandas.DataFrame({"slide": ["Meier 1"], "patient": ["Meier"]}, index=["Meier 1:0_0"])
    >>> table = anndata.AnnData(numpy.ones((1, 2), numpy.float32), obs=obs)
    >>> mask_table(table, {"Meier 1": "slide-1"}, {"Meier": "patient-1"}).obs_names.tolist()
    ['slide-1:0_0']
    """
    import pandas as pd

    copy = table.copy()
    old = table.obs["slide"].astype(str).tolist()
    new = [slides.get(name, "slide") for name in old]
    copy.obs["slide"] = pd.Categorical(new)
    if "patient" in copy.obs:
        asked = table.obs["patient"].astype(str)
        copy.obs["patient"] = pd.Categorical([patients.get(p, "patient") if p else "" for p in asked])
    if "pair" in copy.obs:
        pairs = table.obs["pair"].astype(str)
        copy.obs["pair"] = pd.Categorical([_pair(text, slides) for text in pairs])
    names = [
        f"{after}{name.removeprefix(before)}" if name.startswith(before) else f"{after}:{i}"
        for i, (name, before, after) in enumerate(zip(map(str, table.obs_names), old, new, strict=True))
    ]
    copy.obs_names = pd.Index(names, dtype=object)
    origin = provenance_of(table)
    if origin:
        copy.uns["batchfx"] = origin | {"slides": _slides(origin.get("slides", {}), slides)}
    return copy


def _slides(about: Mapping[str, Any], slides: Mapping[str, str]) -> dict[str, Any]:
    masked = {}
    for name, slide in about.items():
        kept = {key: value for key, value in slide.items() if key != "patient"}
        if isinstance(kept.get("imported"), Mapping):  # the name of the file, which is the slide's
            kept["imported"] = {key: value for key, value in kept["imported"].items() if key != "file"}
        masked[slides.get(name, "slide")] = kept
    return masked


def _pair(text: str, slides: Mapping[str, str]) -> str:
    """``NAME r12 c34`` with the other name."""
    found = re.fullmatch(r"(.*) (r\d+ c\d+)", text, flags=re.S)
    return "" if found is None else f"{slides.get(found[1], 'slide')} {found[2]}"
