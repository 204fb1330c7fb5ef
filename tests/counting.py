"""An encoder that remembers which tiles it was given; a real subclass, put where a study keeps its loaded encoders."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np

from napari_batchfx.encoders import Encoder
from napari_batchfx.encoders.lanes import Lanes


class CountingEncoder(Encoder):
    """Mean and spread of each channel, slowly where asked; ``seen`` counts every tile by its pixels."""

    name, key, kind, dim = "counting", "counting|fp32", "classical", 6
    input_px, mpp, licence = 64, 0.5, "test"

    def __init__(self, seconds=0.0, width=1):
        super().__init__()
        self.seconds, self.width = seconds, width
        self.seen = Counter()
        self.begun = []
        self._count = threading.Lock()

    def lanes(self):
        return Lanes(self.embed, width=self.width)

    def _embed(self, tiles):
        with self._count:
            self.begun.append(time.perf_counter())
            self.seen.update(tile.tobytes() for tile in tiles)
        time.sleep(self.seconds * len(tiles))
        return np.concatenate([tiles.mean((1, 2)), tiles.std((1, 2))], axis=1).astype(np.float32)


def use(study, encoder):
    """Have a study work with this encoder, as if its settings had loaded it."""
    from napari_batchfx.study.instruments import _key

    study.instruments._encoders = {_key(study.settings.encode): encoder}
    return encoder
