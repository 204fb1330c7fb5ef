"""Does stain normalisation take the scanner away? The demo's pair of docs/results.md, tiles as scanned and normalised.

    python benchmarks/probe/stain_pair.py [--seed 3]

One phantom tissue on two scanners, colour-statistics on tiles of 112 px at 0.5 um/px, held out by spatial block.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from napari_batchfx import Study, samples
from napari_batchfx.jobs import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=3)
    with tempfile.TemporaryDirectory() as folder:
        slides = run(samples.demo_pair(folder, seed=parser.parse_args().seed, size_um=1500.0))
        with Study.create(Path(folder) / "pair") as study:
            study.settings.encode.size_px, study.settings.encode.mpp = 112, 0.5
            for slide in slides:
                study.add_slide(
                    slide.path,
                    site=slide.site,
                    scanner=slide.scanner,
                    stain=slide.stain,
                    patient=slide.patient,
                )
            for method in (None, "reinhard", "macenko"):
                study.settings.encode.normalizer = method
                run(study.encode_job())
                found = run(study.probe_job()).result
                print(
                    f"| {method or 'as scanned'} | {found.balanced_accuracy:.3f} ({found.ci[0]:.3f} to {found.ci[1]:.3f}) "
                    f"| p {found.permutation_p:.2f}, {found.support['tiles']} tiles, by {found.grouped_by}",
                    flush=True,
                )
                print(found.verdict)


if __name__ == "__main__":
    main()
