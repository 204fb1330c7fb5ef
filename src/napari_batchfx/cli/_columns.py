"""The columns of a table that a command was given by name, or that it takes without being told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.errors import ProbeError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_columns", "usual_batch"]


def check_columns(table: AnnData, file: str, given: dict[str, str | None]) -> None:
    """Refuse columns (option to name) that a table doesn't have, or that hold nothing.

    Raises
    ------
    ProbeError
        Names the file, the option and the columns there are.
    """
    from napari_batchfx.probe.columns import has_values

    if not table.n_obs:
        raise ProbeError(f"{file}: has no tiles.")
    for option, column in given.items():
        if column is None:
            continue
        what = f"has no column {column}" if column not in table.obs else f"holds nothing in column {column}"
        if not has_values(table, column):
            raise ProbeError(f"{file}: {what}; give --{option} one of {', '.join(_filled(table))}.")


def usual_batch(table: AnnData, file: str, usual: tuple[str, ...] = ("site", "scanner", "stain")) -> str:
    """The first of some columns that has two values.

    Raises
    ------
    ProbeError
        If none has.
    """
    from napari_batchfx.probe.columns import category_codes

    values = {column: category_codes(table, column)[1] for column in usual}
    for column, names in values.items():
        if len(names) > 1:
            return column
    lone = [(column, names[0]) for column, names in values.items() if names]
    if lone:
        raise ProbeError(
            f"{file}: every tile is of {lone[0][0]} {lone[0][1]}, and two or more are needed; add slides, or "
            "give --batch."
        )
    raise ProbeError(
        f"{file}: no column says which batch a tile is of; give --batch one of {', '.join(_filled(table))}."
    )


def _filled(table: AnnData) -> list[str]:
    """Text columns that hold something."""
    from napari_batchfx.probe.columns import has_values

    texts = table.obs.select_dtypes(exclude=["number", "bool"]).columns.drop("pair", errors="ignore")
    return [str(column) for column in texts if has_values(table, str(column))]
