"""Shared fixtures: where the real data are, and a report of which tests read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("BATCHFX_TEST_DATA", ROOT.parent / "shared" / "data"))
REQUIRE_DATA = os.environ.get("BATCHFX_REQUIRE_DATA") == "1"

_real_data_tests: dict[str, str] = {}


def real_path(relative):
    """The path of a real file, for fixtures of a wider scope: missing data skips, or fails where it is required."""
    path = DATA / relative
    if not path.exists():
        message = f"real data missing: {relative} is not under {DATA.name}/ (set BATCHFX_TEST_DATA)"
        (pytest.fail if REQUIRE_DATA else pytest.skip)(message)
    return path


@pytest.fixture
def real_data(request):
    """A function that gives the path of a real file: ``real_data("slides/CMU-1-Small-Region.svs")``.

    Where the file is missing the test is skipped, with the reason, or fails under ``BATCHFX_REQUIRE_DATA=1``.
    """
    _real_data_tests[request.node.nodeid] = "ran"

    def find(relative: str) -> Path:
        if not (DATA / relative).exists():
            state = "FAILED" if REQUIRE_DATA else "skipped"
            _real_data_tests[request.node.nodeid] = f"{state}, data missing"
        return real_path(relative)

    return find


def pytest_terminal_summary(terminalreporter):
    if _real_data_tests:
        terminalreporter.section("tests on real data")
        for name, state in sorted(_real_data_tests.items()):
            terminalreporter.write_line(f"{state}: {name}")


@pytest.fixture(autouse=True)
def _private_folders(tmp_path_factory, monkeypatch):
    """Keep caches and settings of tests out of the user's home."""
    home = tmp_path_factory.getbasetemp() / "batchfx-home"
    monkeypatch.setenv("BATCHFX_CACHE", str(home / "cache"))
    monkeypatch.setenv("BATCHFX_CONFIG", str(tmp_path_factory.mktemp("batchfx-config")))
    monkeypatch.setenv("BATCHFX_PREPARED", str(home / "prepared"))
