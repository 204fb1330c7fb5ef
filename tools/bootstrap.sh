#!/usr/bin/env bash
# Make the machine ready: system libraries for Qt and GL, Xvfb where there is no display, a virtual environment, the
# package with its development tools. What is there already is left alone, so a second call takes a second or less.
#
#   PYTHON   the Python to build the environment with (default: the first of python3, python3.11 ... that is >= 3.11)
#   VENV     where the environment lives (default: .venv)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="${VENV:-.venv}"
minimum="3.11"

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'napari-batchfx: %s\n' "$*" >&2
    exit 1
}

# ---- which Python ----------------------------------------------------------------------------------------------
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [[ -n "${PYTHON:-}" ]]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a command here; give the Python >= $minimum to use."
        is_new_enough "$PYTHON" || fail "$PYTHON is $("$PYTHON" -V 2>&1), but Python >= $minimum is needed."
        echo "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python >= $minimum found; install one (apt-get install python3.11 python3.11-venv) or name it: make test PYTHON=/path/to/python3.11."
}

# ---- system packages -------------------------------------------------------------------------------------------
qt_packages=(
    libgl1 libegl1 libopengl0 libgl1-mesa-dri libglib2.0-0 libdbus-1-3 libfontconfig1 fonts-dejavu-core
    libx11-xcb1 libxkbcommon0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
    libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1
)

has_package() { # newer Debian and Ubuntu call some libraries NAMEt64
    # dpkg-query fails when one of the two names is unknown, which is the rule: only its answer counts
    [[ "$(dpkg-query -W -f='${Status};' "$1" "${1}t64" 2>/dev/null || true)" == *"install ok installed"* ]]
}

install_system_packages() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        if [[ "$(uname -s)" == Linux && ! -e "$venv/.batchfx-stamp" ]]; then
            echo "No apt here: Qt's xcb libraries, libGL and, without a display, Xvfb and xauth have to be there already."
        fi
        return
    fi
    local wanted=("${qt_packages[@]}") missing=() package
    if [[ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" || -n "${CI:-}" ]]; then
        wanted+=(xvfb xauth)
    fi
    # the environment of a Python from Debian needs the package that holds ensurepip
    if [[ ! -x "$venv/bin/python" ]] && ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        wanted+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
    fi
    for package in "${wanted[@]}"; do
        has_package "$package" || missing+=("$package")
    done
    [[ ${#missing[@]} -eq 0 ]] && return

    local as_root=()
    if [[ "$(id -u)" -ne 0 ]]; then
        command -v sudo >/dev/null || fail "these system packages are missing and there is neither root nor sudo to install them: ${missing[*]}."
        as_root=(sudo)
    fi
    say "Installing system packages: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        echo "apt-get update failed; trying with the package lists that are here." >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install ${missing[*]}; its message is above."
}

# ---- the environment -------------------------------------------------------------------------------------------
fingerprint() { # changes with the dependencies, the Python and the place of the checkout (an editable install names it)
    "$python" -c '
import hashlib, os, pathlib, sys
text = pathlib.Path("pyproject.toml").read_text("utf-8") + sys.version + os.path.realpath(".")
print(hashlib.sha256(text.encode()).hexdigest())'
}

install_with_pip() { # PIP_USER=0: a host whose pip installs for the user must not do so here
    PIP_USER=0 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

install_everything() { # with uv where it can be had and succeeds, else with pip
    if install_with_pip uv 2>/dev/null; then
        "$venv/bin/python" tools/uv_install.py && return
        echo "uv did not succeed (its message is above); trying pip." >&2
    fi
    install_with_pip -e ".[dev]"
}

make_environment() {
    local stamp="$venv/.batchfx-stamp" print wanted_version
    print="$(fingerprint)"
    if [[ -x "$venv/bin/python" && -f "$stamp" && "$(<"$stamp")" == "$print" ]]; then
        return
    fi
    wanted_version="$("$python" -c 'import sys; print(sys.version_info[:2])')"
    if [[ -e "$venv" && "$("$venv/bin/python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)" != "$wanted_version" ]]; then
        [[ -f "$venv/pyvenv.cfg" ]] || fail "$venv is there but is no virtual environment; move it away or give another place: make test VENV=..."
        rm -rf "$venv"
    fi
    if [[ ! -e "$venv" ]]; then
        say "Making $venv with $("$python" -V)"
        "$python" -m venv "$venv" || { rm -rf "$venv"; fail "$python cannot make a virtual environment; the message is above."; }
    fi
    say "Installing napari-batchfx and its tools into $venv (once; about 2 minutes and 7 GB, most of it PyTorch)"
    rm -f "$stamp"
    install_everything ||
        fail "the install into $venv failed; the message of pip is above. Once it is solved, the same command goes on."
    echo "$print" >"$stamp"
}

python="$(find_python)"
install_system_packages
make_environment
