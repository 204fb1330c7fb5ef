"""The Ki-67 pair of docs/results.md: the site probe of two real scanners, and a head carried from one to the other.

    python benchmarks/real_pair.py [--data ../shared/data]

One section on a Hamamatsu and an Olympus scanner, colour-statistics on tiles of 83 px at 0.5 um/px. Classes are fields
of the list that comes with the data; the upper half of the section is control. Every correction in both directions.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.study.test_real_pair import FILES, regions  # noqa: E402

from napari_batchfx import Study  # noqa: E402
from napari_batchfx.jobs import run  # noqa: E402

METHODS = {"standardize": "standardise", "standardize-robust": "standardise, robust", "tvn": "TVN"}


def cell(one: dict, sign: str = "") -> str:
    low, high = one["ci"]
    return f"{one['value']:{sign}.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("BATCHFX_TEST_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(data))
    folder = parser.parse_args().data / "scanners" / "ki67-two-scanners"
    with tempfile.TemporaryDirectory() as work, Study.create(Path(work) / "ki67") as study:
        for scanner, name in FILES.items():
            study.add_slide(folder / name, scanner=scanner)
        for scanner in FILES:
            study.annotations += regions(study, scanner, folder / "pair_tiles.csv")
        study.settings.encode.size_px, study.settings.encode.mpp = 83, 0.5
        study.settings.probe.group = "slide"
        run(study.encode_job())
        probe = run(study.probe_job()).result
        print(
            f"scanner: {probe.balanced_accuracy:.3f} ({probe.ci[0]:.3f} to {probe.ci[1]:.3f}), p {probe.permutation_p:.2f}, "
            f"{probe.support['tiles']} tiles, held out by {probe.grouped_by}"
        )
        print(
            "\n| learnt on | applied to | correction | before | after | difference | classes kept | controls |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for source, target in (tuple(FILES), tuple(FILES)[::-1]):
            for method, name in METHODS.items():
                study.settings.adapt.train_on, study.settings.adapt.method = [source], method
                numbers = run(study.adapt_job()).numbers
                found, kept = (
                    numbers["comparison"],
                    [numbers[f"retention_{w}"]["value"] for w in ("before", "after")],
                )
                before, after, gain = (
                    found[f"balanced_accuracy_{what}"] for what in ("before", "after", "difference")
                )
                print(
                    f"| {source} | {target} | {name} | {cell(before)} | {cell(after)} | {cell(gain, '+')} | "
                    f"{kept[0]:.3f} → {kept[1]:.3f} | {numbers['diagnostics']['verdict']} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
