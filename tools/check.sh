#!/usr/bin/env bash
# Every check of the project, with a heading each, stopping at the first that fails.
#
#   tools/check.sh [lint] [docs] [pytest] [-- arguments for pytest]
#
# With arguments after -- only these tests run, and the coverage bound does not apply.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="$(cd "${VENV:-.venv}/bin" && pwd)"

# Two threads a library: the checks share the machine, and a pool of every core each makes tests slower, not faster.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-2}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-2}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-2}"
export MPLBACKEND=Agg QT_API=pyqt6 PYTHONHASHSEED=0
# No test and no docs build talks to the network.
export HF_HUB_OFFLINE=1

summary=()
heading=""
trap 'code=$?; [[ $code -eq 0 || -z "$heading" ]] || printf "\n== FAILED: %s (exit %d)\n" "$heading" "$code" >&2' EXIT

step() { # step HEADING COMMAND...
    heading="$1"
    shift
    printf '\n== %s\n' "$heading"
    local start=$SECONDS
    "$@"
    summary+=("$(printf '%4d s  %s' "$((SECONDS - start))" "$heading")")
}

lint() {
    step "Lint (ruff)" "$bin/ruff" check .
    step "Format (ruff)" "$bin/ruff" format --check .
    step "Types (mypy)" "$bin/mypy"
    step "Import rules (import-linter)" "$bin/lint-imports"
    # --imports also loads every command of the manifest, which needs Qt but no window
    step "Manifest (npe2)" env QT_QPA_PLATFORM=offscreen "$bin/python" -m npe2 validate --imports napari-batchfx
}

docs() {
    rm -rf docs/api/generated docs/_build # from scratch: half a build keeps pages of names that are gone
    step "Documentation (sphinx)" "$bin/python" -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
}

tests() {
    local options=(-o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true)
    if [[ ${#pytest_arguments[@]} -eq 0 ]]; then
        options+=(--cov --cov-report=term --cov-report=xml --cov-fail-under=85 --durations=10)
    else
        options+=("${pytest_arguments[@]}")
    fi
    # A hung test ends with the traceback of every thread: after 3 minutes by pytest's watchdog, and should that be stuck as
    # well, after 25 by SIGABRT, on which faulthandler prints too. PYTHONPATH: the plugin that traces Qt's threads.
    local limit=(env)
    command -v timeout >/dev/null && limit=(timeout --foreground --signal=ABRT --kill-after=20 1500)
    step "Tests (pytest)" env PYTHONPATH="tools${PYTHONPATH:+:$PYTHONPATH}" PYTHONFAULTHANDLER=1 \
        tools/with-display.sh "${limit[@]}" "$bin/python" -m pytest -p trace_qt_threads "${options[@]}"
}

parts=()
pytest_arguments=()
while [[ $# -gt 0 ]]; do
    case "$1" in
        lint | docs | pytest) parts+=("$1") ;;
        --)
            shift
            pytest_arguments=("$@")
            break
            ;;
        *)
            echo "tools/check.sh: unknown check '$1'; there are lint, docs and pytest." >&2
            exit 2
            ;;
    esac
    shift
done

for part in "${parts[@]}"; do
    if [[ "$part" == pytest ]]; then tests; else "$part"; fi
done
printf '\n== All checks passed\n'
printf '%s\n' "${summary[@]}"
