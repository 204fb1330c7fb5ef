"""Tables of known make, and a brute force that shares no code with the package."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd


def made_table(n=600, dim=24, slides=24, sites=3, classes=3, biology=0.7, batch=0.6, slide_sd=0.3, seed=0):
    """Rows: class + site + slide effect + noise; slides take turns among the sites; also the golden numbers' maker."""
    rng = np.random.default_rng(seed)
    slide = np.repeat(np.arange(slides), n // slides)
    site = slide % sites
    label = rng.integers(0, classes, len(slide))
    x = rng.normal(size=(len(slide), dim))
    x += biology * rng.normal(size=(classes, dim))[label]
    x += batch * rng.normal(size=(sites, dim))[site]
    x += slide_sd * rng.normal(size=(slides, dim))[slide]
    return table_of(x.astype(np.float32), label, site, slide)


def table_of(x, label, site, slide):
    columns = {"label": label, "site": site, "slide": slide}
    obs = pd.DataFrame({name: np.asarray(codes).astype(str) for name, codes in columns.items()})
    obs.index = obs.index.astype(str)
    return anndata.AnnData(np.asarray(x, dtype=np.float32), obs=obs)


def codes(table, column):
    return np.unique(table.obs[column].to_numpy().astype(str), return_inverse=True)[1]


def distances(x, metric="cosine"):
    """All distances (n, n) in float64, one pair at a time."""
    x = np.asarray(x, dtype=np.float64)
    if metric == "cosine":
        x = x / np.sqrt((x * x).sum(axis=1))[:, None]
        return np.array([[1 - float(a @ b) for b in x] for a in x])
    return np.array([np.sqrt(((a - x) ** 2).sum(axis=1)) for a in x])


def lists(d, group):
    """For each row the others of other groups, the nearest first."""
    out = []
    for i, row in enumerate(d):
        others = [j for j in range(len(d)) if group[j] != group[i] and j != i]
        out.append(sorted(others, key=lambda j: (row[j], j)))
    return out
