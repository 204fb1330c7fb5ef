"""Sphinx configuration, and the pages of the API written from each room's ``__all__``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

from sphinx.pycode import ModuleAnalyzer  # noqa: E402

import napari_batchfx  # noqa: E402 - found through the line above

# ---- the project ---------------------------------------------------------------------------------
project = "napari-batchfx"
author = "The napari-batchfx developers"
copyright = author
release = version = napari_batchfx.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
nitpicky = False  # types in docstrings are words for people; examples are executed by the tests instead

autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the numpydoc sections state types, shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them
numpydoc_attributes_as_param_list = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "napari-batchfx"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "napari-batchfx"},
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "icon_links": [
        {
            "name": "Source",
            "url": "https://github.com/napari-batchfx/napari-batchfx",
            "icon": "fa-brands fa-github",
        }
    ],
}

# ---- the API pages -------------------------------------------------------------------------------
# In the order of the data's way. The viewer is used through napari, not imported, and has pages of its own.
ROOMS = {
    "slides": "Slides",
    "tiles": "Tiles",
    "stain": "Stain",
    "encoders": "Encoders",
    "features": "Features",
    "probe": "Site probe and metrics",
    "adapt": "Adaptation",
    "samples": "Sample data",
    "report": "Report",
    "study": "Study",
    "jobs": "Jobs",
    "errors": "Errors",
}


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n\n")[0]


def _title(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def _table(module: ModuleType, names: list[str]) -> list[str]:
    """An autosummary table with a page for every name."""
    lines = [
        f".. currentmodule:: {module.__name__}",
        "",
        ".. autosummary::",
        "   :toctree: objects",
        "   :nosignatures:",
        "",
    ]
    return [*lines, *(f"   {name}" for name in names), ""]


def _room_page(module: ModuleType, title: str) -> list[str]:
    """The page of a room: its docstring, its public names, and a section for every public module in it."""
    names = [name for name in module.__all__ if not name.startswith("_")]
    modules = [name for name in names if inspect.ismodule(getattr(module, name))]
    lines = [*_title(title), f".. automodule:: {module.__name__}", "   :no-members:", ""]
    if own := [name for name in names if name not in modules]:
        lines += _table(module, own)
    for name in modules:
        inner = getattr(module, name)
        lines += [f"{title}: {name}", "-" * len(f"{title}: {name}"), "", _first_line(inner), ""]
        told = [getattr(module, n) for n in own]  # what the room itself has already
        public = [n for n in inner.__all__ if not inspect.ismodule(getattr(inner, n))]
        lines += _table(inner, [n for n in public if not any(getattr(inner, n) is one for one in told)])
    return lines


def _write(page: Path, lines: list[str]) -> None:
    """Write a page, but leave one that wouldn't change alone, so that sphinx needn't read it again."""
    text = "\n".join(lines)
    if not page.exists() or page.read_text("utf-8") != text:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, "utf-8")


def _write_api_pages(folder: Path) -> list[str]:
    """Write a page a room and their table of contents; return the pages, as autosummary wants them."""
    toc = [".. toctree::", "   :maxdepth: 1", ""]
    for room, title in ROOMS.items():
        name = f"napari_batchfx.{room}"
        if importlib.util.find_spec(name) is None or not hasattr(
            module := importlib.import_module(name), "__all__"
        ):
            continue  # a room without public names
        _write(folder / f"{room}.rst", _room_page(module, title))
        toc.append(f"   generated/{room}")
    _write(folder / "toc.txt", toc)
    return [str(page.relative_to(HERE)) for page in sorted(folder.glob("*.rst"))]


def _write_command_page(page: Path) -> None:
    """The help of every command, as the program prints it."""
    import click
    import typer

    from napari_batchfx.cli import app

    program = typer.main.get_command(app)
    context = click.Context(program, info_name="napari-batchfx")
    lines = []
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        if command.hidden:
            continue
        command.rich_markup_mode = None  # plain text instead of boxes
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100)
        inner.terminal_width = 100
        lines += [name, "-" * len(name), "", ".. code-block:: text", ""]
        lines += [f"   {line}" if line else "" for line in command.get_help(inner).splitlines()]
        lines += [""]
    _write(page, lines)


_write_command_page(HERE / "api" / "generated" / "commands.txt")
# named here, because autosummary looks only into pages that the last build knew
autosummary_generate = _write_api_pages(HERE / "api" / "generated")


def _document_constant(app, what, name, obj, options, lines):
    """Give a re-exported constant the comment beside its definition instead of its type's docstring."""
    if what != "data":
        return
    constant = name.rpartition(".")[2]
    lines[:] = [f"A ``{type(obj).__name__}``.", ""]
    for module in list(sys.modules.values()):
        if module.__name__.startswith("napari_batchfx.") and vars(module).get(constant) is obj:
            comments = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
            if ("", constant) in comments:
                lines[:] = comments["", constant]
                return


def setup(app):
    app.connect("autodoc-process-docstring", _document_constant)
