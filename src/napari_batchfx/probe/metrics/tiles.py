"""What a metric works on: the tiles with finite features, a class, a batch and a slide."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.columns import category_codes, feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Group", "Tiles", "read_tiles"]

Group = str | NDArray[np.integer[Any]] | None

_UNEVEN = 2.0
_FEW_GROUPS = 5


@dataclass(frozen=True)
class Tiles:
    """Tiles that take part in a metric.

    Attributes
    ----------
    x : float32 (m, d)
    label, batch, group : int (m,)
        Codes, without gaps; ``label`` is all 0 where no class was asked for.
    rows : int (m,)
        Their rows in the table of ``n`` rows.
    labels, batches : list of str
        Names of the codes.
    notes : list of str
        What was left out, and traps of the table that hold for every metric.
    """

    x: NDArray[np.float32]
    label: NDArray[np.intp]
    batch: NDArray[np.intp]
    group: NDArray[np.intp]
    rows: NDArray[np.intp]
    n: int
    labels: list[str]
    batches: list[str]
    label_column: str | None
    batch_column: str
    group_column: str
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> NDArray[np.intp]:
        """Tiles of each class (row) and batch (column)."""
        out = np.zeros((len(self.labels), len(self.batches)), dtype=np.intp)
        np.add.at(out, (self.label, self.batch), 1)
        return out

    @property
    def support(self) -> dict[str, Any]:
        """How many tiles, groups, classes and batches."""
        out: dict[str, Any] = {"tiles": len(self.rows), "groups": len(np.unique(self.group))}
        out |= {"grouped_by": self.group_column, "batch": self.batch_column}
        if self.label_column is not None:
            out["classes"] = len(self.labels)
        return out | {"batches": len(self.batches)}

    def spread(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values (m,) at their rows of the table (n,); NaN elsewhere."""
        out = np.full(self.n, np.nan)
        out[self.rows] = values
        return out

    def only(self, keep: NDArray[np.intp]) -> Tiles:
        """Some of the tiles, given by their places here."""
        label, batch = self.label[keep], self.batch[keep]
        some_labels, label = np.unique(label, return_inverse=True)
        some_batches, batch = np.unique(batch, return_inverse=True)
        return replace(
            self,
            x=self.x[keep],
            label=label.ravel().astype(np.intp),
            batch=batch.ravel().astype(np.intp),
            group=self.group[keep],
            rows=self.rows[keep],
            labels=[self.labels[i] for i in some_labels],
            batches=[self.batches[i] for i in some_batches],
        )

    def balanced(self, seed: int = 0) -> Tiles:
        """As many tiles of every class in every batch as the smallest such cell has, drawn at random."""
        rng = np.random.default_rng(seed)
        cell = self.label * len(self.batches) + self.batch
        least = int(self.counts.min())
        if least == 0:
            return self  # a cell that doesn't exist can't be matched; the design's warning says so
        picked = [
            np.sort(rng.choice(np.flatnonzero(cell == c), least, replace=False)) for c in np.unique(cell)
        ]
        return self.only(np.sort(np.concatenate(picked)))

    def trouble(self) -> str:
        """Why class and batch can't be weighed against each other here; empty where they can."""
        batch, label = self.batch_column, self.label_column
        if len(self.batches) < 2:
            return f"Every tile is of {batch} {''.join(self.batches)}: a metric of {batch} needs two or more."
        if label is not None and len(self.labels) < 2:
            return f"Every tile is of {label} {''.join(self.labels)}: nothing to weigh the {batch} against."
        if (self.x == self.x[0]).all():
            return "Every tile has the same features: the encoder sees nothing here."
        there = self.counts > 0
        if label is not None and not ((there.sum(axis=1) > 1).any() and (there.sum(axis=0) > 1).any()):
            return (
                f"Class and {batch} are tied ({self._tie()}): batch and biology can't be told apart; add "
                f"slides so that a class comes from two {batch}s and a {batch} has two classes."
            )
        return ""

    def lone(self) -> str:
        """Why no neighbour can be of a tile's own batch: its group is left out, and is all of it."""
        batch, group = self.batch_column, self.group_column
        if len(np.unique(self.group)) == 1:
            return f"All tiles are of one {group}: no tile has neighbours elsewhere."
        if group == batch:
            return (
                f"The {batch} is batch and group at once: a tile's own {group} is left out, so no neighbour "
                "can be of its batch; choose another group."
            )
        if group == "tile" or max(self._groups()) > 1:
            return ""
        return (
            f"Every {batch} has one {group} only, and a tile's own {group} is left out: no neighbour can be "
            f"of its {batch}; add {group}s."
        )

    def _groups(self) -> list[int]:
        return [len(np.unique(self.group[self.batch == b])) for b in range(len(self.batches))]

    def _tie(self) -> str:
        there = self.counts > 0
        if not (there.sum(axis=1) > 1).any():
            return f"no {self.label_column} occurs in two {self.batch_column}s"
        return f"no {self.batch_column} has two values of {self.label_column}"

    def traps(self) -> list[str]:
        """What about this table misleads, in words."""
        from napari_batchfx.probe.metrics.cramers_v import association

        out = []
        counts = self.counts
        missing = int((counts == 0).sum())
        present = counts[counts > 0]
        uneven = present.max() / present.min()
        if missing or uneven > _UNEVEN:
            what = f"{missing} of {counts.size} are empty" if missing else f"up to {uneven:.1f} times as many"
            out.append(
                f"Classes and {self.batch_column}s are not evenly filled ({what}); that moves the index by "
                "itself: compare only tables of one design, or draw equal numbers."
            )
        v = association(self.label, self.batch)
        if v is not None and v >= 0.3:
            out.append(
                f"Class and {self.batch_column} go together (Cramér's V {v:.2f}): part of what looks like "
                "biology may be the batch, and the other way round."
            )
        groups = self._groups()
        if min(groups) < _FEW_GROUPS and self.group_column != "tile":
            fewest = self.batches[int(np.argmin(groups))]
            out.append(
                f"Only {min(groups)} {self.group_column}{'' if min(groups) == 1 else 's'} of "
                f"{self.batch_column} {fewest}: differences between {self.group_column}s pass for the "
                f"{self.batch_column}, and the interval is rough."
                + (
                    f" Its tiles have no neighbour of their own {self.batch_column}, which raises the index."
                    if min(groups) == 1
                    else ""
                )
            )
        return out


def read_tiles(
    table: AnnData, label: str | None, batch: str, group: Group = "slide", *, unit_length: bool = True
) -> Tiles:
    """Take the tiles of a table that a metric can use.

    Parameters
    ----------
    table : anndata.AnnData
    label : str or None
        Column of the class, or ``None`` for a metric that has none.
    batch, group : str
        Columns of batch and of what belongs together; ``group`` may be codes (n,), or ``None``: every tile
        for itself.
    unit_length : bool
        Whether the metric measures angles: then tiles whose features are all zero are left out.

    Raises
    ------
    ProbeError
        If a column is missing or empty, or no tile is left.

    Examples
    --------
    >>> import anndata, pandas
    >>> obs = pandas.DataFrame({"site": list("AABB"), "slide": list("1234")}, index=list("abcd"))
    >>> x = np.array([[1.0], [np.nan], [2.0], [3.0]], dtype=np.float32)
    >>> tiles = read_tiles(anndata.AnnData(x, obs=obs), None, "site")
    >>> tiles.rows.tolist(), tiles.notes
    ([0, 2, 3], ['1 tile has missing features and was left out.'])
    """
    n = table.n_obs
    notes: list[str] = []
    codes: dict[str, NDArray[np.intp]] = {}
    for name, column in (("label", label), ("batch", batch), ("group", group)):
        if isinstance(column, str):
            codes[name] = _column(table, column)
        elif column is None:
            codes[name] = np.zeros(n, dtype=np.intp) if name == "label" else np.arange(n)
        else:
            codes[name] = np.asarray(column, dtype=np.intp)
    names = {
        "label": category_codes(table, label)[1] if label else [""],
        "batch": category_codes(table, batch)[1],
    }
    x = feature_matrix(table)
    finite = np.isfinite(x).all(axis=1)
    keep = np.ones(n, dtype=bool)
    group_name = group if isinstance(group, str) else ("tile" if group is None else "group")
    reasons = {"label": f"no {label}", "batch": f"no {batch}", "group": f"no {group_name}"}
    for name, code in codes.items():
        _leave_out(keep, code >= 0, reasons[name], notes)
    _leave_out(keep, finite, "missing features", notes)
    if unit_length:
        _leave_out(keep, (x != 0).any(axis=1), "features that are all zero", notes)
    rows = np.flatnonzero(keep)
    if not len(rows):
        wanted = [word for word in (label, batch, group_name if group_name != "tile" else None) if word]
        raise ProbeError(f"No tile has finite features and a {' and a '.join(wanted)}: nothing to measure.")
    out: dict[str, Any] = {}
    for name in ("label", "batch", "group"):
        present, out[name] = np.unique(codes[name][rows], return_inverse=True)
        out[name] = out[name].ravel().astype(np.intp)
        if name != "group":
            out[f"{name}s" if name == "label" else "batches"] = [names[name][c] for c in present]
    x = x if len(rows) == n else x[rows]
    return Tiles(
        x=np.asarray(x, dtype=np.float32),
        rows=rows,
        n=n,
        label_column=label,
        batch_column=batch,
        group_column=group_name,
        notes=notes,
        **out,
    )


def _column(table: AnnData, column: str) -> NDArray[np.intp]:
    if column not in table.obs:
        there = ", ".join(map(str, table.obs.columns)) or "none"
        raise ProbeError(f"The table has no column {column}; it has {there}.")
    codes, names = category_codes(table, column)
    if not names:
        raise ProbeError(f"No tile has a {column} yet: fill the column {column}, or choose another.")
    return codes


def _leave_out(keep: NDArray[np.bool_], good: NDArray[np.bool_], what: str, notes: list[str]) -> None:
    lost = int((keep & ~good).sum())
    if lost:
        verb = ("tile has", "was") if lost == 1 else ("tiles have", "were")
        notes.append(f"{lost:,} {verb[0]} {what} and {verb[1]} left out.")
    keep &= good
