"""The command line's frame: the app, one sentence for an error, a bar for a job."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from napari_batchfx.errors import BatchfxError, Cancelled
from napari_batchfx.jobs import Job, Progress, run

if TYPE_CHECKING:
    from napari_batchfx.study import Study

__all__ = [
    "BUSY",
    "OK",
    "PARTIAL",
    "PROBLEM",
    "STOPPED",
    "AsJson",
    "app",
    "command",
    "count",
    "drive",
    "fail",
    "finish",
    "note",
    "open_or_create",
    "out",
    "print_json",
    "set_debug",
    "wait",
]

P = ParamSpec("P")
T = TypeVar("T")

#: The same option everywhere: what came out as one JSON object on standard output, and nothing else there.
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]

#: Exit codes; docs/commands.md says what they mean. 2 is typer's: the command was not written right.
OK, PROBLEM, PARTIAL, BUSY, STOPPED = 0, 1, 3, 4, 130

app = typer.Typer(
    name="napari-batchfx",
    help="See, measure and remove batch effects in whole-slide pathology images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def set_debug(on: bool) -> None:
    """Whether an error shows its traceback."""
    global _debug
    _debug = on


def out() -> Console:
    """Where results go: standard output, as it is now (tests replace it)."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def _err() -> Console:
    return Console(file=sys.stderr, highlight=False)


def note(text: str) -> None:
    """A line for the person, on standard error, so that standard output stays the result."""
    print(text.replace("give mpp=...", "give --mpp to `embed` or `add`"), file=sys.stderr)


def print_json(facts: dict[str, Any]) -> None:
    """What came out, as one JSON object on standard output."""
    print(json.dumps(facts, ensure_ascii=False, indent=2, default=str))


def fail(text: str, code: int = PROBLEM) -> typer.Exit:
    """One sentence on standard error; raise what is given back."""
    note(text)
    return typer.Exit(code)


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Register a command whose errors end in one sentence and an exit code, not in a traceback."""

    def register(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except (typer.Exit, typer.Abort, typer.BadParameter):
                raise
            except (KeyboardInterrupt, Cancelled):
                raise fail("Stopped; tiles that a study has stored are kept.", STOPPED) from None
            except BrokenPipeError:  # "| head" closed the pipe: nobody reads on
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(PROBLEM) from None
            except BatchfxError as error:
                if _debug:
                    traceback.print_exc()
                code = BUSY if type(error).__name__ == "StudyBusyError" else PROBLEM
                raise fail(" ".join(str(error).split()), code) from None
            except OSError as error:
                if _debug:
                    traceback.print_exc()
                raise fail(_file_trouble(error)) from None
            except Exception as error:  # noqa: BLE001 - last place before the user: a bug is a sentence too
                if _debug:
                    traceback.print_exc()
                text = " ".join(f"{type(error).__name__}: {error}".split())
                raise fail(f"This should not happen ({text}); see where it does with --debug.") from None

        return app.command(name)(guarded)

    return register


def _file_trouble(error: OSError) -> str:
    """A file or folder that the system refuses, in one sentence."""
    name = os.path.basename(os.fsdecode(error.filename or ""))
    name = f"{name[:60]}…" if len(name) > 60 else name
    reason = error.strerror or str(error) or type(error).__name__
    return f"{name or 'A file'}: it can't be used ({reason}); check the name and the folder."


def drive(job: Job[T]) -> T:
    """Run a job with a bar on standard error: what, how many, tiles a second, time left."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = _err()
    bars = Bars(
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    )
    if not console.is_terminal:
        return run(job)
    with bars:
        task = bars.add_task("", total=None)

        def show(progress: Progress) -> None:
            bars.update(
                task, total=progress.total or None, completed=progress.done, description=progress.text()
            )

        return run(job, show)


def count(n: int, what: str) -> str:
    """``1 slide``, ``1,204 tiles``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def wait(text: str) -> Any:
    """A context in which a spinner says what is going on."""
    return _err().status(text)


def open_or_create(path: Path | None) -> Study:
    """The study there, a new one where there is none, or a temporary one."""
    from napari_batchfx.study import Study, study_folder

    if path is None:
        return Study.create()
    folder = study_folder(path)
    return Study.open(folder) if (folder / "study.json").is_file() else Study.create(folder)


def finish(problems: Sequence[str], of: int) -> None:
    """Say what failed and leave with 1, if anything did."""
    for problem in problems:
        note(problem)
    if problems and of > 1:
        is_partial = len(problems) < of
        rest = "; the others are done" if is_partial else ""
        raise fail(f"{len(problems):,} of {of:,} slides failed{rest}.", PARTIAL if is_partial else PROBLEM)
    if problems:
        raise typer.Exit(PROBLEM)
