"""A pytest plugin: several pytest processes share one list of tests, so that all of them are busy until the end.

With ``--share FOLDER`` a process runs a file of tests only if it is the first to make a folder of that name in FOLDER; each
file runs in exactly one process, and a file's tests run together, in their order. Large files come first, because they
take longest as a rule: what is left for the end is short. ``FOLDER.files`` lists what there is to run. Load with
``-p share_tests``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--share", metavar="FOLDER", help="run only files that no other process with FOLDER runs"
    )


def file_of(item):
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if config.getoption("--share"):
        size = {file: os.path.getsize(config.rootpath / file) for file in {file_of(item) for item in items}}
        items.sort(key=lambda item: (-size[file_of(item)], file_of(item)))  # stable: a file keeps its order
        with open(f"{config.getoption('--share')}.files", "a", encoding="utf-8") as listed:
            listed.write("".join(f"{file}\n" for file in size))


def claimed(items, folder):
    """The items of the files that this process is the first to claim, claimed when their turn comes."""
    for file, own in itertools.groupby(items, key=file_of):
        with contextlib.suppress(FileExistsError):
            (folder / file.replace("/", ".")).mkdir()
            yield from own


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """pytest's own loop, over claimed items: the next one is asked for early, as teardown needs to know it."""
    folder = session.config.getoption("--share")
    if not folder or session.config.option.collectonly or session.testsfailed:
        return None  # pytest's own
    items = claimed(session.items, Path(folder))
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True
