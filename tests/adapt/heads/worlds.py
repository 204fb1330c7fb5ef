"""Features of domains that differ by an affine map, with controls: a world in which adaptation must work."""

import anndata
import numpy as np
import pandas as pd


def make_world(domains, n=240, seed=0, classes=3, dim=16, mix=None, spread=4.0):
    """``domains`` names; a third of each domain are controls without a class; ``mix`` is the share of each class."""
    means = 1.6 * np.random.default_rng(1234).normal(size=(classes, dim))
    rng = np.random.default_rng(seed)
    parts, obs = [], []
    for name in domains:
        gain, offset = np.exp(rng.normal(0, 0.3, dim)), rng.normal(0, spread, dim)
        control = np.arange(n) < n // 3
        y = rng.choice(classes, n, p=mix)
        x = np.where(control[:, None], 0.0, means[y]) + rng.normal(size=(n, dim))
        parts.append(x * gain + offset)
        obs.append(
            pd.DataFrame(
                {
                    "site": name,
                    "patient": [f"{name}-{i % 8}" for i in range(n)],
                    "label": np.where(control, "", np.array([f"class {c}" for c in y], dtype=object)),
                    "control": control,
                }
            )
        )
    table = pd.concat(obs, ignore_index=True)
    table.index = table.index.astype(str)
    return anndata.AnnData(np.concatenate(parts).astype("float32"), obs=table)


def accuracy(prediction, table):
    known = (table.obs["label"] != "").to_numpy()
    return float((prediction.label[known] == table.obs["label"].to_numpy()[known]).mean())
