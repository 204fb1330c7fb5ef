#!/usr/bin/env bash
# Run the slide tests with the oldest supported tifffile on the oldest Python, and with the newest of both.
#
# tifffile changed its zarr API between 2025.5 and 2026.5 and its newest versions need a newer Python. Two environments
# are made in a temporary folder (kept, so that a second run is quick); the project is used from its source tree.
#
#   tools/tifffile_generations.sh [folder]
#   OLD_PYTHON=python3.11 NEW_PYTHON=python3.13 tools/tifffile_generations.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="${1:-${TMPDIR:-/tmp}/batchfx-tifffile}"
oldest=2025.5.21
export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 PYTHONDONTWRITEBYTECODE=1
# What tests/slides needs: no torch, no napari, no Qt.
needs=("dask[array]" filelock hypothesis imagecodecs numba numpy openslide-bin openslide-python pillow platformdirs
    psygnal pydantic pydicom pytest rich scikit-image scipy shapely typer)

# Give a Python by its version: what the caller named, python3.x, or pyenv's.
python_of() {
    local named="$1" version="$2" found
    if [[ -n "$named" ]]; then
        echo "$named"
    elif found="$(command -v "python$version")" && "$found" -c "" 2>/dev/null; then
        echo "$found"
    else
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python | tail -1
    fi
}

run() {
    local name="$1" python="$2"
    shift 2
    if [[ ! -x "$folder/$name/bin/python" ]]; then
        "$python" -m venv "$folder/$name"
    fi
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "${needs[@]}" "$@" 2>"$folder/pip.log" ||
        { cat "$folder/pip.log"; return 1; }
    # seen by subprocesses of tests as well, whatever they do to PYTHONPATH
    echo "$PWD/src" >"$("$folder/$name/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/batchfx.pth"
    echo "== $name: $("$folder/$name/bin/python" - <<'EOF'
import importlib.metadata as meta, platform
names = ("tifffile", "zarr", "imagecodecs", "numpy", "pillow", "dask", "openslide-bin")
print("Python", platform.python_version(), *(f"{n} {meta.version(n)}" for n in names), sep=", ")
EOF
)"
    "$folder/$name/bin/python" -m pytest -q -p no:cacheprovider -c /dev/null --rootdir "$PWD" \
        -o pythonpath="$PWD" -o addopts="" --import-mode=importlib tests/slides
}

mkdir -p "$folder"
result=0
run oldest "$(python_of "${OLD_PYTHON:-}" 3.11)" "tifffile==$oldest" "zarr==3.0.8" || result=1
run newest "$(python_of "${NEW_PYTHON:-}" 3.13)" --upgrade tifffile "zarr>=3.0.8" || result=1
exit $result
