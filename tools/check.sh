#!/usr/bin/env bash
# Every check of the project, with a heading each, stopping at the first that fails.
#
#   tools/check.sh [lint] [docs] [pytest] [-- arguments for pytest]
#
# With arguments after -- only these tests run, and the coverage bound does not apply.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="$(cd "${VENV:-.venv}/bin" && pwd)"

# One thread a library, and two for our own kernels: two checks at a time fill two cores, and threads that wait for one
# another spin. The software renderer likewise.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}" LP_NUM_THREADS="${LP_NUM_THREADS:-1}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-2}"
export MPLBACKEND=Agg QT_API=pyqt6 PYTHONHASHSEED=0
# Compiled once and kept, ours and uv's packages: the checks start some hundred processes.
unset PYTHONDONTWRITEBYTECODE
# No test and no docs build talks to the network.
export HF_HUB_OFFLINE=1

summary=()
heading=""
beside="" # the process that runs beside this one: stopped with this script
queue=""  # which files of tests were taken, and the logs
trap 'code=$?; [[ -z "$beside" ]] || stop "$beside"; [[ -z "$queue" ]] || rm -rf "$queue"; [[ $code -eq 0 || -z "$heading" ]] || printf "\n== FAILED: %s (exit %d)\n" "$heading" "$code" >&2' EXIT

stop() { # a process and all that it started
    local child
    for child in $(ps -o pid= --ppid "$1" 2>/dev/null); do stop "$child"; done
    kill "$1" 2>/dev/null || true
}

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

build_docs() {
    rm -rf docs/api/generated docs/_build # from scratch: half a build keeps pages of names that are gone
    "$bin/python" -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
}

docs() { step "Documentation (sphinx)" build_docs; }

# Kernels are compiled once and kept beside their source: before the tests, so that not each of their processes does it.
compile_kernels() { "$bin/python" tools/compile_kernels.py; }

# The documentation takes about as long as everything else that needs no test run: one on each core.
lint_docs_and_kernels() {
    local log start=$SECONDS code=0
    log="$(mktemp)"
    build_docs >"$log" 2>&1 &
    beside=$!
    lint
    step "Kernels (numba)" compile_kernels
    heading="Documentation (sphinx)"
    wait "$beside" || code=$?
    beside=""
    printf '\n== %s\n' "$heading"
    cat "$log"
    rm -f "$log"
    summary+=("$(printf '%4d s  %s' "$((SECONDS - start))" "$heading, beside lint and kernels")")
    return "$code"
}

# pytest_in_window COVERAGE_FILE ARGUMENTS...
#
# A hung test ends with the traceback of every thread: after 3 minutes by pytest's watchdog, and should that be stuck as
# well, after 45 by SIGABRT, on which faulthandler prints too. PYTHONPATH: the plugins that trace Qt's threads and share tests.
pytest_in_window() {
    local coverage="$1" limit=(env)
    shift
    command -v timeout >/dev/null && limit=(timeout --foreground --signal=ABRT --kill-after=20 2700)
    env COVERAGE_FILE="$coverage" PYTHONPATH="tools${PYTHONPATH:+:$PYTHONPATH}" PYTHONFAULTHANDLER=1 \
        tools/with-display.sh "${limit[@]}" "$bin/python" -m pytest -p trace_qt_threads -p share_tests \
        -o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true "$@"
}

# Two processes, one for the tests with a window and one for the others. Whichever has no file left helps with the
# other's, so both end together; the coverage of all counts together.
untaken() { # untaken PART: its files that no process has taken yet
    local file
    sort -u "$queue/taken.files" | while read -r file; do
        case "$1 $file" in "window tests/viewer/"*) ;; "core tests/viewer/"* | window*) continue ;; esac
        [[ -d "$queue/taken/${file//\//.}" ]] || echo "$file"
    done
}

share_of() { # share_of PART NAME: pytest on what is untaken of a part
    local -A folders=([window]="tests/viewer" [core]="tests --ignore=tests/viewer")
    # shellcheck disable=SC2086 # the words of a part
    pytest_in_window ".coverage.$2" ${folders[$1]} --share "$queue/taken" -o "cache_dir=.pytest_cache/$2" \
        --cov --cov-report= --durations=10
}

lane() { # lane PART OTHER: a part, then what is left of the other
    local code=0
    share_of "$1" "$1" || code=$?
    if [[ $code -eq 0 && -n "$(untaken "$2")" ]]; then
        printf '\n-- helping with the %s tests\n' "$2"
        share_of "$2" "$1-helps" || code=$?
    fi
    return "$code"
}

both_lanes() {
    local code=0 left
    queue="$(mktemp -d)"
    mkdir "$queue/taken"
    rm -f .coverage .coverage.*
    lane window core >"$queue/log" 2>&1 &
    beside=$!
    sleep 3 # two X servers that look for a free display at once may take the same
    lane core window || code=$?
    wait "$beside" || code=$?
    beside=""
    printf '\n-- the process that began with the window tests\n'
    cat "$queue/log"
    left="$(untaken window)$(untaken core)"
    rm -rf "$queue"
    queue=""
    [[ $code -ne 0 || -z "$left" ]] || { echo "No process took these files of tests: $left" >&2; return 1; }
    return "$code"
}

coverage_of_both() {
    "$bin/python" -m coverage combine -q .coverage.*
    "$bin/python" -m coverage xml -q &
    beside=$!
    "$bin/python" -m coverage report --fail-under=85
    wait "$beside"
    beside=""
}

tests() {
    if [[ ${#pytest_arguments[@]} -eq 0 ]]; then
        step "Tests (pytest)" both_lanes
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

if [[ "${parts[*]}" == "lint docs pytest" ]]; then
    lint_docs_and_kernels
    parts=(pytest)
fi
for part in "${parts[@]}"; do
    if [[ "$part" == pytest ]]; then tests; else "$part"; fi
done
printf '\n== All checks passed\n'
printf '%s\n' "${summary[@]}"
