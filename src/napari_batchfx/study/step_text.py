"""A step as text that runs: Python, and a command line."""

from __future__ import annotations

import json
import keyword
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.errors import StudyError
from napari_batchfx.study.settings import Settings

if TYPE_CHECKING:
    from napari_batchfx.study.step import Step

__all__ = ["command_text", "python_text", "value_of_text"]

#: A longer list of tiles is not spelled out in a command: systems limit how long one may be.
_MAX_TILES_TEXT = 2000
_NO_STUDY = "NAME.batchfx"


def python_text(step: Step, study: Path | str | None) -> str:
    """Lines of Python that do a step (see :meth:`Step.as_python`)."""
    from napari_batchfx.study.step import step_kind

    kind = step_kind(step.kind)
    if kind is None:
        return f"# This program does not know the step {step.kind!r} of napari-batchfx {step.version}."
    chosen = _not_default(step)
    models = {name: type(getattr(Settings(), name)).__name__ for name in kind.sections}
    names = sorted({*models.values()} | ({"Selection"} if not step.selection.is_everything else set()))
    lines = ["from napari_batchfx import Study", "from napari_batchfx.jobs import run"]
    lines += [kind.imports] if kind.imports else []
    lines += [f"from napari_batchfx.study import {', '.join(names)}"] if names else []
    lines += ["", f"with Study.open({str(study or _NO_STUDY)!r}) as study:"]
    for section, model in models.items():
        given = ", ".join(f"{key}={value!r}" for key, value in chosen.get(section, {}).items())
        lines.append(f"    study.settings.{section} = {model}({given})")
    if not step.selection.is_everything:
        lines.append(
            f"    study.selection = Selection(slides={step.selection.slides!r}, "
            f"tiles={step.selection.tiles!r})"
        )
    _check_options(step)
    options = ", ".join(f"{key}={value!r}" for key, value in step.options.items())
    if kind.needs_tiles:
        lines.append("    run(study.encode_job())  # tiles that are there already aren't computed again")
    call = kind.call.replace("{options}", options) if kind.job else f"study.{kind.method}({options})"
    lines += [f"    outcome = run({call})", "    study.save()", ""]
    return "\n".join(lines)


def command_text(step: Step, study: Path | str | None, number: int | None) -> str:
    """A command line that does a step (see :meth:`Step.as_command`)."""
    words = ["napari-batchfx", "run", str(study or _NO_STUDY)]
    tiles = sum(map(len, step.selection.tiles.values()))
    if number is not None and tiles > _MAX_TILES_TEXT:
        return shlex.join([*words, "--step", str(number)])
    words += ["--do", step.kind]
    for section, values in _not_default(step).items():
        for key, value in values.items():
            words += ["--set", f"{section}.{key}={_text(value)}"]
    for key, value in step.options.items():
        words += ["--set", f"{key}={_text(value)}"]
    for name in step.selection.slides:
        words += ["--slide", name]
    for name, text in step.selection.tiles.items():
        words += ["--tiles", f"{name}={text}"]
    return shlex.join(words)


def value_of_text(text: str) -> Any:
    """A value as ``--set`` takes it: JSON where it is JSON, the text itself otherwise.

    >>> value_of_text("0.5"), value_of_text("null"), value_of_text("macenko"), value_of_text('["A", "B"]')
    (0.5, None, 'macenko', ['A', 'B'])
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_options(step: Step) -> None:
    """Names of options become code: those of a stranger's file must be names."""
    for name in step.options:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise StudyError(
                f"The step {step.kind!r} has an option {name[:40]!r}, which is no name; don't run it."
            )


def _text(value: Any) -> str:
    if isinstance(value, str) and value_of_text(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _not_default(step: Step) -> dict[str, dict[str, Any]]:
    """The settings that are not the default, by section."""
    given, usual = step.chosen_settings().model_dump(mode="json"), Settings().model_dump(mode="json")
    found = {}
    for section in step.settings:
        if section in given:
            found[section] = {k: v for k, v in given[section].items() if v != usual[section][k]}
    return found
