"""``info``: what a slide file says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_batchfx.cli._app import command, out

__all__ = ["register"]

_WARNING = "This can name a patient: keep it out of reports, tickets and messages."
#: How ``info`` names what isn't plain; the others have their key's words.
_WORDS = {"associated": "associated images", "scan_date": "scan date"}
_COLOUR = {"off": "pixels as stored", "auto": "to sRGB where the file has a profile", "on": "to sRGB"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app)
    def info(
        slide: Annotated[Path, typer.Argument(help="A slide file, or the folder of a DICOM slide.")],
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
        mpp: Annotated[
            float | None, typer.Option(help="Micrometres a pixel, where the file has none.", min=0.001)
        ] = None,
        icc: Annotated[
            str, typer.Option(help="Colours: off (as stored), auto (as the file says) or on (to sRGB).")
        ] = "off",
        private: Annotated[
            bool,
            typer.Option(
                "--private", help="Also barcode, user, file name at the scanner: they can name a patient."
            ),
        ] = False,
    ) -> None:
        """Say what a slide file holds: size, pixel size, scanner, levels; never its label or a name."""
        from napari_batchfx.slides import open_slide

        with open_slide(slide, mpp=None if mpp is None else (mpp, mpp), icc=icc) as opened:
            facts = opened.info()
            hidden = opened.private() if private else None
        if as_json:
            given = facts if hidden is None else {**facts, "private": hidden}
            print(json.dumps(given, ensure_ascii=False, indent=2, default=str))
            return
        _print(_readable(facts))
        if hidden is not None:
            out().print(f"\nprivate\n{_WARNING}", markup=False)
            names = ", ".join(facts["associated"]) or "none"
            _print({**hidden, "associated images (may show the label)": names})


def _readable(facts: dict[str, Any]) -> dict[str, Any]:
    """Put the four entries about colour into one line, and leave out that nothing is damaged."""
    left_out = {"icc_profile", "icc_name", "icc", "icc_note"} | (
        set() if facts["n_damaged"] else {"n_damaged"}
    )
    rows = {_WORDS.get(k, k.replace("_", " ")): v for k, v in facts.items() if k not in left_out}
    rows["associated images"] = ", ".join(facts["associated"]) or "none"
    rows["colour profile"] = "none"
    if facts["icc_profile"]:
        how = facts["icc_note"] or _COLOUR[facts["icc"]]
        rows["colour profile"] = f"{facts['icc_name'] or 'without a name'} ({how})"
    fingerprint = rows.pop("fingerprint")
    return {**rows, "fingerprint": fingerprint}


def _print(rows: dict[str, Any]) -> None:
    console = out()
    width = max(len(key) for key in rows)
    for key, value in rows.items():
        console.print(f"{key:<{width}}  {_text(value)}", markup=False)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], dict):
            return "; ".join(", ".join(f"{k} {_text(v)}" for k, v in item.items()) for item in value)
        return " x ".join(_text(item) for item in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)
