"""Train batchfx-mini, the encoder that comes with the package, from nothing.

    python tools/train_mini.py [--data ../shared/data] [--work mini-work] [--steps 1500]

Self-supervised, on the phantom and on those real images that are free to use; see docs/methods/batchfx-mini.md. Takes
about an hour on two cores, less on a GPU (taken where there is one). A stopped run goes on from its last checkpoint
when the same command is given again. Writes ``batchfx-mini.safetensors`` into the work folder; ``--ship`` puts it into
the package.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main(arguments: list[str] | None = None) -> int:
    import torch
    from tools.mini import patches, shipping
    from tools.mini.training import Recipe, Training
    from tools.mini.views import ViewSettings

    usual, seen = Recipe(), ViewSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("BATCHFX_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of the real images")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "mini-work", help="where patches and checkpoints go"
    )
    parser.add_argument("--patches", type=Path, help="where the patches are, if not in the work folder")
    parser.add_argument("--phantoms", type=int, default=2400, help="places of phantoms")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=float, default=240.0, help="seconds between checkpoints")
    parser.add_argument("--ship", action="store_true", help="put the weights into the package")
    for name in (
        "architecture",
        "objective",
        "telling",
        "steps",
        "places",
        "rate",
        "averaging",
        "seed",
        "large_px",
        "large_steps",
        "cooling",
        "warmup",
    ):
        value = getattr(usual, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    for name in ("px", "apart", "other", "stain", "light", "blur", "phantom_share", "mpp_low", "mpp_high"):
        value = getattr(seen, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    options = vars(parser.parse_args(arguments))

    device = options["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options["threads"])
    views = ViewSettings(**{k: options[k] for k in vars(seen)})
    recipe = replace(
        usual, views=views, **{k: options[k] for k in vars(usual) if k in options and k != "views"}
    )

    def say(text: str) -> None:
        print(text, flush=True)

    folder = patches.make(
        options["data"],
        options["patches"] or options["work"] / "patches",
        options["phantoms"],
        options["threads"],
    )
    found = patches.load(folder)
    training = Training(recipe, found, device, options["threads"])
    state = options["work"] / "state"
    if (state / "state.json").exists():
        training.load(state)
        say(f"going on from step {training.step}")
    training.run(log=say, save=lambda t: t.save(state), every_s=options["every"])
    network = shipping.finish(training, found)
    path = shipping.write(network, recipe, found, options["work"] / "batchfx-mini.safetensors")
    say(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")

    from tools.mini.validation import validate

    from napari_batchfx.encoders import load

    with load(path, threads=options["threads"]) as encoder:
        scores = validate(encoder.embed, options["data"])
    say(json.dumps({k: round(v, 4) for k, v in scores.items()}))
    if options["ship"]:
        shipping.ship(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
