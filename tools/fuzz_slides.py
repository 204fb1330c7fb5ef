"""Break small slides in thousands of ways, open each, and see that nothing worse happens than a sentence.

    python tools/fuzz_slides.py --count 2000 --seed 0

Every mutant is opened in a worker process: coarsest level, regions of every level, thumbnail, info, label images,
close. What may come out: a picture ("fine"), a picture with grey tiles that are counted ("damaged"), or a SlideError
that names the file ("refused"). What may not: another exception, a killed process, more than 5 s of processor time,
more than 1 GB more memory than before. Mutants that fail are kept with ``--keep FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.slide_mutants import mutate, seeds  # noqa: E402 - the folder above is put onto the path first

LIMIT_S = 5.0
LIMIT_MB = 1024
#: Wall time after which a worker is killed: several times the limit, since the machine may be busy.
KILL_S = 20.0
GOOD = ("fine", "damaged", "refused")


@dataclass(frozen=True)
class Outcome:
    """What opening one mutant came to: a word, its cost, and the sentence or traceback."""

    what: str
    text: str = ""
    cpu_s: float = 0.0
    peak_mb: float = 0.0


class Worker:
    """A process that opens slides one after the other, and is replaced when it hangs or dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, path: Path) -> Outcome:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{path}\n".encode())
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(KILL_S):
                    self.close()
                    return Outcome("hang", f"no answer within {KILL_S:g} s")
            line = process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            code = process.wait()
            self.close()
            return Outcome("dead", f"the process ended with {code}")
        outcome = Outcome(**json.loads(line))
        if outcome.what in GOOD and outcome.cpu_s > LIMIT_S:
            return Outcome("hang", outcome.text, outcome.cpu_s, outcome.peak_mb)
        if outcome.what in GOOD and outcome.peak_mb > LIMIT_MB:
            return Outcome("memory", outcome.text, outcome.cpu_s, outcome.peak_mb)
        return outcome

    def _start(self) -> subprocess.Popen[bytes]:
        env = dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        assert self._process.stdout is not None
        # the first line says that everything is imported
        self._process.stdout.readline()
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def work() -> None:
    """Open the slides whose paths come on stdin; one JSON line for each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what codecs print must not be taken for an answer
    import resource

    from napari_batchfx.slides import open_slide  # noqa: F401 - imported before memory is measured

    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 2**30,) * 2)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        before = _start_of_peak()
        began = time.process_time()
        what, text = look_at(Path(line.rstrip("\n")))
        answer = {
            "what": what,
            "text": text,
            "cpu_s": time.process_time() - began,
            "peak_mb": _peak() - before,
        }
        print(json.dumps(answer), file=answers, flush=True)


def _start_of_peak() -> float:
    """Start measuring the peak of memory anew; returns what is used now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def look_at(path: Path) -> tuple[str, str]:
    """Open a slide and look at all of it; returns the outcome in a word, and the sentence or traceback."""
    import traceback

    from napari_batchfx.slides import SlideError, open_slide, tile_cache

    tile_cache().clear()
    try:
        with open_slide(path) as slide:
            height, width = slide.levels[-1].shape
            slide.read(-1, 0, 0, height, width)
            for level, info in enumerate(slide.levels):
                h, w = info.shape
                for y, x in ((0, 0), (h - 300, w - 300), (h // 2, w // 3)):
                    slide.read(level, y, x, 300, 300)
            slide.thumbnail(200)
            info = slide.info()
            for name in slide.associated:
                try:
                    slide.associated_image(name)
                except SlideError as error:
                    _require_sentence(error, path)
            _ = slide.extent_um if slide.mpp else None
            json.dumps(info)
            assert len(slide.fingerprint) == 32
            if slide.damage:
                assert len({(d.level, d.row, d.col) for d in slide.damage}) == len(slide.damage)
                return "damaged", f"{len(slide.damage)} tiles: {slide.damage[0].reason}"
            return "fine", ""
    except SlideError as error:
        try:
            _require_sentence(error, path)
        except AssertionError:
            return "no sentence", str(error)
        return "refused", str(error)
    except BaseException:  # noqa: BLE001 - finding these is what this is for
        return "crash", traceback.format_exc()


def _require_sentence(error: Exception, path: Path) -> None:
    text = str(error)
    assert path.name in text, text
    assert "\n" not in text, text
    assert len(text) < 500, text


def run(count: int, seed: int, *, keep: Path | None = None, show: bool = True) -> list[tuple[str, Outcome]]:
    """Open ``count`` mutants; returns what was done to each and what came out."""
    found: list[tuple[str, Outcome]] = []
    worker = Worker()
    with tempfile.TemporaryDirectory(prefix="batchfx-fuzz-") as folder:
        originals = seeds(Path(folder))
        try:
            for path in originals:
                outcome = worker.open(path)
                if outcome.what != "fine":
                    raise SystemExit(f"{path.name} is broken before anything was done to it: {outcome}")
            for number in range(count):
                rng = np.random.default_rng([seed, number])
                original = originals[int(rng.integers(len(originals)))]
                how, data = mutate(rng, original)
                path = Path(folder) / f"mutant-{number}{original.suffix}"
                path.write_bytes(data)
                outcome = worker.open(path)
                found.append((f"{number} {original.name} {how}", outcome))
                if outcome.what not in GOOD:
                    if show:
                        print(f"{outcome.what}: {found[-1][0]}\n  {outcome.text[-1500:]}", flush=True)
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / path.name).write_bytes(data)
                path.unlink()
        finally:
            worker.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the mutants that failed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return 0
    began = time.perf_counter()
    found = run(options.count, options.seed, keep=options.keep)
    by_outcome = Counter(outcome.what for _, outcome in found)
    print(f"{len(found)} mutants, seed {options.seed}, {time.perf_counter() - began:.0f} s: ", end="")
    print(", ".join(f"{n} {what}" for what, n in by_outcome.most_common()))
    slow = max(found, key=lambda item: item[1].cpu_s)
    big = max(found, key=lambda item: item[1].peak_mb)
    print(f"slowest {slow[1].cpu_s:.2f} s of processor time ({slow[0]})")
    print(f"largest {big[1].peak_mb:.0f} MB more than before ({big[0]})")
    kinds = Counter(name.split(" ", 2)[2].split(":")[0] for name, _ in found)
    for kind, n in sorted(kinds.items()):
        here = Counter(o.what for name, o in found if name.split(" ", 2)[2].split(":")[0] == kind)
        print(f"  {kind:18s} {n:5d}  {', '.join(f'{k} {what}' for what, k in here.most_common())}")
    return 0 if set(by_outcome) <= set(GOOD) else 1


if __name__ == "__main__":
    sys.exit(main())
