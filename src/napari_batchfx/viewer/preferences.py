"""The plugin's page in napari's Preferences, read and put to work."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_batchfx.study import Study

__all__ = ["apply_preferences", "new_study", "preference"]

_DEFAULTS: dict[str, Any] = {
    "tile_cache_mb": 192,
    "prepared_gb": 20,
    "default_encoder": "colour-statistics",
    "device": "auto",
    "batch_size": 0,
    "hub_offline": False,
}


def preference(name: str) -> Any:
    """A value from napari's Preferences, or its default where the plugin isn't registered (in a script)."""
    with contextlib.suppress(KeyError, AttributeError, ImportError):
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings("napari-batchfx").general, name)
    return _DEFAULTS[name]


def apply_preferences() -> None:
    """Set the cache's size and the hub's mode as the Preferences say."""
    from napari_batchfx.slides import set_cache_bytes

    set_cache_bytes(int(preference("tile_cache_mb")) * 1024 * 1024)
    if preference("hub_offline"):
        os.environ["HF_HUB_OFFLINE"] = "1"


def new_study() -> Study:
    """An unsaved study with the encoder, device and batch size of the Preferences."""
    from napari_batchfx.study import Study
    from napari_batchfx.study.recovery import unsaved_folder

    study = Study.create(unsaved_in=unsaved_folder())
    settings = study.settings.encode
    settings.encoder = str(preference("default_encoder")).strip() or _DEFAULTS["default_encoder"]
    settings.device = str(preference("device"))
    settings.batch_size = int(preference("batch_size")) or None
    return study
