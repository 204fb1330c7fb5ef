"""What README and docs tell people to type exists and works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from napari_batchfx.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts and "generated" not in page.parts]
LINES = [
    (page.relative_to(ROOT), line.strip().removeprefix("$ "))
    for page in PAGES
    for block in re.findall(r"```(?:bash|console|shell|sh)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if "napari-batchfx " in line
]


def test_there_are_commands_to_check():
    assert len(LINES) > 10


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: str(value)[:60])
def test_every_command_in_the_docs_exists_with_its_options(page, line):
    words = line.partition("#")[0].split()
    if "napari-batchfx" not in words:
        return  # named in an install line
    words = words[words.index("napari-batchfx") + 1 :]
    command = get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        assert words[0] in command.commands, f"{page}: {line}"
        command = command.commands[words.pop(0)]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    known |= {"--help", "--debug"}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{page}: {line}"


def test_the_python_of_the_readme_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    # The comments beside the prints say what comes out; the numbers they quote must be the ones that do.
    comments = re.findall(r"\)  # (.*)", code)
    assert len(comments) == code.count("print(")
    for comment in comments:
        for piece in filter(None, (part.strip() for part in comment.split("..."))):
            assert piece in done.stdout, f"README says {piece!r}; it prints:\n{done.stdout}"
    assert (tmp_path / "pair.html").is_file()


def test_links_and_pictures_of_the_pages_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            path = (page.parent / target).resolve()
            assert path.exists() or "api/generated" in target, f"{page.relative_to(ROOT)}: {target}"
