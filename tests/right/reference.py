"""The straightforward way from a file to vectors, with nothing of ours in it: decoder, Pillow, timm's transform, fp32."""

from __future__ import annotations

import re

import numpy as np
import tifffile
from PIL import Image


def picture(path):
    """All pixels of level 0 as a Pillow image."""
    if path.suffix == ".svs" or not path.name.endswith(".tif"):
        Image.MAX_IMAGE_PIXELS = None
        return Image.open(path).convert("RGB")
    # Pillow can't decode the JPEG tiles of these
    return Image.fromarray(tifffile.imread(path, key=0))


def ome_mpp(path):
    """Micrometres a pixel (y, x), as the OME-XML says."""
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    return tuple(float(re.search(rf'PhysicalSize{axis}="([\d.]+)"', text).group(1)) for axis in "YX")


def tile(image, slide_mpp, cell, size_px, mpp):
    """One tile: its rectangle in (fractions of) level-0 pixels, resized once by Pillow's bicubic filter."""
    y0, x0 = (n * size_px * mpp / m for n, m in zip(cell, slide_mpp, strict=True))
    h, w = (size_px * mpp / m for m in slide_mpp)
    if (h, w) == (size_px, size_px):
        return image.crop((round(x0), round(y0), round(x0) + size_px, round(y0) + size_px))
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=(x0, y0, x0 + w, y0 + h))


class Model:
    """A timm model in fp32 with timm's own evaluation transform; tiles are exact in size, so nothing is cropped off."""

    def __init__(self, architecture, state, **config):
        import timm
        import torch

        state = dict(state)
        self.levels, self.last = [], None
        # batchfx-mini: one linear layer on the pooled features and every level
        if "classifier.weight" in state:
            self.last = torch.nn.Linear(*state["classifier.weight"].shape[::-1])
            self.last.load_state_dict({k: state.pop(f"classifier.{k}") for k in ("weight", "bias")})
        self.model = timm.create_model(architecture, pretrained=False, num_classes=0).float().eval()
        self.model.load_state_dict(state)
        if self.last is not None:
            for part in (self.model.bn1, *self.model.blocks):
                part.register_forward_hook(lambda _, __, output: self.levels.append(output[0]))
        whole = timm.data.resolve_model_data_config(self.model) | config | {"crop_pct": 1.0}
        self.transform = timm.data.create_transform(**whole, is_training=False)

    def embed(self, tiles, assembly="pooled"):
        """Vectors of Pillow images, one image a forward pass."""
        import torch

        rows = []
        with torch.inference_mode():
            for image in tiles:
                batch = self.transform(image)[None]
                if assembly == "pooled":
                    self.levels.clear()
                    row = self.model(batch)[0]
                    if self.last is not None:
                        each = (v for x in self.levels for v in (x.mean((1, 2)), x.std((1, 2), correction=0)))
                        row = self.last(torch.cat([row, *each]))
                    rows.append(row)
                    continue
                tokens = self.model.forward_features(batch)[0]
                parts = [tokens[0], tokens[self.model.num_prefix_tokens :].mean(0)]
                rows.append(torch.cat(parts) if assembly == "cls+mean" else parts[0])
        return torch.stack(rows).numpy()


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def centred_cosine(a, b):
    """Cosine of what tells the tiles apart: the mean vector of the tiles is taken off first."""
    middle = b.mean(0)
    return cosine(a - middle, b - middle)
