"""Models with weights that make sense of their input, saved as users save them."""

import json

import numpy as np
import pytest

MODELS = {
    # a CNN with BatchNorm, and a vision transformer normalised as the pathology ones are
    "mobilenetv4_conv_small": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"},
    "vit_small_patch16_224": {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bicubic",
    },
}


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """``saved_model(architecture)``: folder with config.json and weights, the weights, and its input's settings."""
    made = {}

    def make(architecture):
        if architecture not in made:
            made[architecture] = _save(architecture, tmp_path_factory.mktemp(architecture))
        return made[architecture]

    return make


def _save(architecture, folder):
    import timm
    import torch
    from safetensors.torch import save_file
    from skimage.data import immunohistochemistry

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
        if any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules()):
            # on the way to the means and variances of real pixels: with those of a new model the tiles hardly differ, and
            # with those of eight tiles alone a channel that is nearly constant would blow up a single grey level
            image = immunohistochemistry()
            some = np.stack([image[y : y + 224, x : x + 224] for y in (0, 90, 180, 288) for x in (0, 288)])
            model.train()
            for module in model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.momentum = 0.3
            with torch.no_grad():
                model((torch.from_numpy(some).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    model.eval()
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    config = {**MODELS[architecture], "input_size": (3, 224, 224), "crop_pct": 0.9, "license": "mit"}
    (folder / "config.json").write_text(
        json.dumps({"architecture": architecture, "num_classes": 0, "pretrained_cfg": config})
    )
    return folder, state, MODELS[architecture]
