"""``study.json`` of earlier versions, brought to the present one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["VERSION", "migrate"]

VERSION: Final = 2

Data = dict[str, Any]


def _to_2(data: Data) -> Data:
    """Version 2 has the steps that were done, and a class and further columns for each slide."""
    return {**data, "steps": [], "version": 2}


#: From each version to the one after it.
_NEXT: Final[dict[int, Callable[[Data], Data]]] = {1: _to_2}


def migrate(data: Data) -> Data:
    """What a file says, in the present version's words; the file itself is left alone.

    Examples
    --------
    >>> migrate({"version": 1, "name": "lymph nodes"})
    {'version': 2, 'name': 'lymph nodes', 'steps': []}
    """
    version = data.get("version", 1)
    while isinstance(version, int) and version in _NEXT:
        data = _NEXT[version](data)
        version = data["version"]
    return data
