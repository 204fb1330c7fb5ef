"""Train batchfx-mini, the encoder that comes with the package, from nothing.

    python tools/train_mini.py [--data ../shared/data] [--work mini-work]

Self-supervised, on the phantom and on those real images that are free to use, in three stages and a last layer; see
docs/methods/batchfx-mini.md, also for how far two trainings are apart. Takes some forty minutes on two cores, less on a
GPU (taken where there is one). A stopped run goes on from its last checkpoint when the same command is given again.
Writes ``batchfx-mini.safetensors`` into the work folder; ``--ship`` puts it into the package. ``--begin FILE`` starts
from weights of an earlier training in place of the first stage: the network that is shipped was made so, from version 1,
with ``--phantoms 600``. ``--last-layer FILE`` trains nothing and fits the last layer of a finished network anew: version
3 was made so from version 2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main(arguments: list[str] | None = None) -> int:
    import torch
    from tools.mini import patches, readout, shipping
    from tools.mini.training import FIRST, SECOND, THIRD, Recipe, Training

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
    parser.add_argument("--begin", type=Path, help="weights to start from, in place of the first stage")
    parser.add_argument("--last-layer", type=Path, help="a finished network: only its last layer is fitted")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=3,
        default=[FIRST.steps, SECOND.steps, THIRD.steps],
        help="steps of the three stages; the last third of each is cooled",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=float, default=240.0, help="seconds between checkpoints")
    parser.add_argument("--ship", action="store_true", help="put the weights into the package")
    options = vars(parser.parse_args(arguments))

    device, work, threads = options["device"], options["work"], options["threads"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)

    def say(text: str) -> None:
        print(text, flush=True)

    folder = patches.make(
        options["data"], options["patches"] or work / "patches", options["phantoms"], threads
    )
    found = patches.load(folder)

    def train(recipe: Recipe, state: Path, begin: dict | None) -> Training:
        training = Training(recipe, found, device, threads, begin)
        if (state / "state.json").exists():
            training.load(state)
            say(f"going on from step {training.step}")
        training.run(log=say, save=lambda t: t.save(state), every_s=options["every"])
        return training

    def trained(begin: Path | None) -> tuple[torch.nn.Module, Recipe]:
        training = None
        for name, recipe, steps in zip(
            ("first", "second", "third"), (FIRST, SECOND, THIRD), options["steps"], strict=True
        ):
            if name == "first" and begin is not None:
                continue
            if steps != recipe.steps:
                recipe = replace(
                    recipe,
                    steps=steps,
                    cooling=min(recipe.cooling, steps // 3),
                    large_steps=min(recipe.large_steps, steps // 3),
                )
            weights = None
            if begin is not None:
                recipe = replace(recipe, begun=hashlib.sha256(begin.read_bytes()).hexdigest())
                weights = shipping.weights(begin)
            training = train(recipe, work / name, weights)
            begin = shipping.save(training, work / f"{name}.safetensors")
        assert training is not None
        return shipping.finish(training, tiles(), log=say), training.recipe

    def tiles() -> readout.Tiles:
        last = readout.Recipe()
        return readout.make_tiles(found, SECOND.views, last.tiles, last.seed, work / "readout", threads)

    if options["last_layer"] is not None:
        network, recipe = shipping.with_last_layer(options["last_layer"], tiles(), log=say)
    else:
        network, recipe = trained(options["begin"])
    path = shipping.write(network, recipe, found, work / "batchfx-mini.safetensors")
    say(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")

    from tools.mini.validation import validate

    from napari_batchfx.encoders import load

    with load(path, threads=threads) as encoder:
        scores = validate(encoder.embed, options["data"])
    say(json.dumps({k: round(v, 4) for k, v in scores.items()}))
    if options["ship"]:
        shipping.ship(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
