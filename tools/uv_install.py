"""Install the checkout with its development tools by uv, as pip is set up on this machine.

uv unpacks several packages at once and takes a quarter of pip's time, but reads none of pip's settings: an index of one's own,
folders of wheels, constraints and certificates are handed over here. Run by ``tools/bootstrap.sh`` with the Python of
the environment; what it can't do, pip does there.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

NAMES = {  # pip's name: uv's variable and what separates several values there
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "no-index": ("UV_NO_INDEX", " "),
}


def settings(listed: str) -> dict[str, str]:
    """Environment variables for uv from what ``pip config list`` prints; the environment goes before files."""
    found = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        variable, separator = NAMES.get(name.rpartition(".")[2], ("", ""))
        if variable:
            found[variable] = separator.join(str(ast.literal_eval(value)).split())
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # the newest of all indexes, as pip takes it
    return found


def main() -> int:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    environment = os.environ | settings(listed)
    return subprocess.run([*command, "-e", ".[dev]"], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
