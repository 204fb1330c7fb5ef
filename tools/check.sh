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
viewer="" # the process of the tests with a window: stopped with this script
trap 'code=$?; [[ -z "$viewer" ]] || kill "$viewer" 2>/dev/null || true; [[ $code -eq 0 || -z "$heading" ]] || printf "\n== FAILED: %s (exit %d)\n" "$heading" "$code" >&2' EXIT

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

# pytest_in_window NAME COVERAGE_FILE ARGUMENTS...
#
# A hung test ends with the traceback of every thread: after 3 minutes by pytest's watchdog, and should that be stuck as
# well, after 45 by SIGABRT, on which faulthandler prints too. PYTHONPATH: the plugin that traces Qt's threads.
pytest_in_window() {
    local coverage="$1" limit=(env)
    shift
    command -v timeout >/dev/null && limit=(timeout --foreground --signal=ABRT --kill-after=20 2700)
    env COVERAGE_FILE="$coverage" PYTHONPATH="tools${PYTHONPATH:+:$PYTHONPATH}" PYTHONFAULTHANDLER=1 \
        tools/with-display.sh "${limit[@]}" "$bin/python" -m pytest -p trace_qt_threads \
        -o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true "$@"
}

# The windows spend half of their time waiting: the other tests run beside them, and the coverage of both counts together.
both_halves() {
    local log code=0
    log="$(mktemp)"
    rm -f .coverage .coverage.viewer .coverage.core
    pytest_in_window .coverage.viewer tests/viewer -o cache_dir=.pytest_cache/viewer --cov --cov-report= --durations=5 \
        >"$log" 2>&1 &
    viewer=$!
    sleep 3 # two X servers that look for a free display at once may take the same
    pytest_in_window .coverage.core tests --ignore=tests/viewer --cov --cov-report= --durations=10 || code=$?
    printf '\n-- the tests with a window\n'
    wait "$viewer" || code=$?
    viewer=""
    cat "$log"
    rm -f "$log"
    return "$code"
}

coverage_of_both() {
    "$bin/python" -m coverage combine -q .coverage.viewer .coverage.core
    "$bin/python" -m coverage xml -q
    "$bin/python" -m coverage report --fail-under=85
}

tests() {
    if [[ ${#pytest_arguments[@]} -eq 0 ]]; then
        step "Tests (pytest)" both_halves
        step "Coverage" coverage_of_both
    else
        step "Tests (pytest)" pytest_in_window .coverage "${pytest_arguments[@]}"
    fi
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
