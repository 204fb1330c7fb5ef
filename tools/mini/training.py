"""The training loop: a rate that is held and then cooled, averaged weights, checkpoints that a stopped run goes on from."""

from __future__ import annotations

import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tools.mini.objective import OBJECTIVES, Learner
from tools.mini.patches import Patches
from tools.mini.views import ViewMaker, ViewSettings
from torch.nn import functional


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out."""

    architecture: str = "mobilenetv4_conv_small"
    objective: str = "contrast"
    told: str = "colour"  # what is told of a view: the colour statistics, or "all", appearance too
    telling: float = 1.0  # weight of the squared error of what is told
    contrasting: float = 1.0  # weight of the contrast
    begun: str = ""  # sha256 of the weights that it starts from; none: random
    steps: int = 1500
    places: int = 96  # places a step, two views each
    rate: float = 2e-3
    warmup: int = 100
    cooling: int = 450  # the last steps, in which the rate falls to a hundredth
    decay: float = 0.02
    averaging: float = 0.995
    seed: int = 0
    large_px: int = 112  # side of the views in the last steps ...
    large_steps: int = 80  # ... and how many of those there are
    views: ViewSettings = field(default_factory=ViewSettings)

    def rate_at(self, step: int) -> float:
        """Learning rate: linear warm-up, held, then half a cosine down to a hundredth (Haegele et al. 2024).

        Until it cools it doesn't depend on the length, so that a run can be made longer or shorter on the way.
        """
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = max(0.0, (step - (self.steps - self.cooling)) / max(1, self.cooling))
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def is_the_same_so_far(self, other: Recipe, step: int) -> bool:
        """Whether another recipe leads to the same state at ``step``: the end may differ until it has begun."""
        end = ("steps", "cooling", "large_px", "large_steps")
        alike = replace(other, **{name: getattr(self, name) for name in end}) == self
        free = min(r.steps - max(r.cooling, r.large_steps) for r in (self, other))
        return alike and (self == other or step <= free)

    def px_at(self, step: int) -> int:
        """Side of the views."""
        return self.large_px if step >= self.steps - self.large_steps else self.views.px


#: From nothing: contrast, and the colour statistics.
FIRST = Recipe()

#: From the first's weights: colour statistics and appearance are told, contrast keeps what it has learned. Views of
#: many more colours, which both views of a place share.
SECOND = Recipe(
    told="all",
    telling=3.0,
    contrasting=0.3,
    steps=700,
    places=32,
    rate=1e-3,
    warmup=40,
    cooling=200,
    averaging=0.99,
    seed=1,
    large_steps=20,
    views=ViewSettings(look=0.3, stain=0.12, light=0.03, apart=0.5, phantom_share=0.3),
)


#: The same again, with larger views.
THIRD = replace(
    SECOND,
    telling=4.0,
    contrasting=0.25,
    steps=420,
    places=28,
    warmup=15,
    cooling=230,
    averaging=0.985,
    seed=2,
    large_px=112,
    large_steps=15,
    views=replace(SECOND.views, px=96),
)


class Target:
    """What is told, as targets of about the same size.

    Colour statistics alone are standardised. Where everything is told, many numbers go together: their principal
    components are taken, each divided by the fourth root of its variance, so that the smaller ones count, too.
    """

    COMPONENTS = 128

    def __init__(self, centre: torch.Tensor, spread: torch.Tensor, turn: torch.Tensor | None = None) -> None:
        self.centre, self.spread, self.turn = centre, spread, turn

    @classmethod
    def of(cls, views: ViewMaker, n: int) -> Target:
        """Fitted to ``n`` views."""
        usual = torch.from_numpy(views.batch(2**31, n)[1]).double()
        centre, spread = usual.mean(0), usual.std(0).clamp_min(1e-4)
        if views.told == "colour":
            return cls(centre.float(), spread.float())
        z = ((usual - centre) / spread).clamp(-5, 5)
        values, vectors = torch.linalg.eigh(z.T @ z / len(z))
        values, vectors = (x.flip(-1)[..., : cls.COMPONENTS] for x in (values, vectors))
        vectors = vectors * torch.sign(vectors.sum(0))
        turn = vectors / values.clamp_min(1e-3).pow(0.25) / values.clamp_min(0).sqrt().mean().sqrt()
        return cls(centre.float(), spread.float(), turn.float())

    @property
    def size(self) -> int:
        """How many numbers are told."""
        return len(self.centre) if self.turn is None else self.turn.shape[1]

    def to(self, device: str) -> Target:
        """The same on a device."""
        turn = None if self.turn is None else self.turn.to(device)
        return Target(self.centre.to(device), self.spread.to(device), turn)

    def __call__(self, said: torch.Tensor) -> torch.Tensor:
        """Targets (n, size) of statistics (n, k)."""
        z = ((said - self.centre) / self.spread).clamp(-5, 5)
        return z if self.turn is None else z @ self.turn


class Training:
    """A run of a recipe on patches; its state can be written and read at any step."""

    def __init__(
        self,
        recipe: Recipe,
        patches: Patches,
        device: str = "cpu",
        threads: int = 2,
        begin: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self.recipe, self.device = recipe, device
        self.views = ViewMaker(patches, recipe.views, recipe.seed, threads, recipe.told)
        # of views that no step uses
        self.target = Target.of(self.views, 256 if recipe.told == "colour" else 384).to(device)
        torch.manual_seed(recipe.seed)
        self.learner = Learner(recipe.architecture, self.target.size)
        if begin is not None:
            self.learner.network.load_state_dict(begin)
        self.learner = self.learner.to(device, memory_format=torch.channels_last).train()
        decayed = [p for p in self.learner.parameters() if p.ndim > 1]
        others = [p for p in self.learner.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.rate,
        )
        self.average = {k: v.detach().clone() for k, v in self.learner.network.state_dict().items()}
        self.step = 0

    def run(self, until: int | None = None, *, log=None, save=None, every_s: float = 240.0) -> None:
        """Go on to step ``until`` (the recipe's end by default); ``save`` is called now and then and at the end."""
        recipe = self.recipe
        until = recipe.steps if until is None else min(until, recipe.steps)
        loss_of = OBJECTIVES[recipe.objective]
        started = saved = time.monotonic()
        first, mean = self.step, None
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.views.batch, self.step, recipe.places, recipe.px_at(self.step))
            while self.step < until:
                views, said = coming.result()
                following = min(self.step + 1, recipe.steps - 1)
                coming = ahead.submit(self.views.batch, following, recipe.places, recipe.px_at(following))
                for group in self.optimiser.param_groups:
                    group["lr"] = recipe.rate_at(self.step)
                batch = torch.from_numpy(views).permute(0, 3, 1, 2).to(self.device)
                projected, told = self.learner(batch)
                error = functional.mse_loss(told, self.target(torch.from_numpy(said).to(self.device)))
                loss = recipe.contrasting * loss_of(projected) + recipe.telling * error
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0)
                self.optimiser.step()
                self._average()
                self.step += 1
                value = float(loss.detach())
                off = float(error.detach())
                if not math.isfinite(value):
                    raise FloatingPointError(f"the loss is {value} at step {self.step}")
                mean = value if mean is None else 0.95 * mean + 0.05 * value
                now = time.monotonic()
                if log is not None and (self.step % 20 == 0 or self.step == until):
                    speed = 2 * recipe.places * (self.step - first) / (now - started)
                    log(
                        f"step {self.step}/{recipe.steps} loss {mean:.4f} statistics {off:.3f} rate {recipe.rate_at(self.step):.5f} {speed:.0f} views/s"
                    )
                if save is not None and now - saved > every_s:
                    save(self)
                    saved = now
        if save is not None:
            save(self)

    @torch.no_grad()
    def _average(self) -> None:
        # the mean of the last steps from the start on, so that the random beginning doesn't linger
        keep = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
        for key, value in self.learner.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - keep)
            else:
                self.average[key].copy_(value)

    def save(self, folder: Path) -> None:
        """Write the state: tensors as safetensors, numbers as JSON; the last whole one stays until then."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"learner.{k}": v.contiguous() for k, v in self.learner.state_dict().items()}
        tensors |= {f"average.{k}": v.contiguous() for k, v in self.average.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
        name = f"state-{self.step}.safetensors"
        save_file({k: v.cpu() for k, v in tensors.items()}, folder / name)
        said = {"step": self.step, "tensors": name, "recipe": asdict(self.recipe)}
        partial = folder / "state.json.part"
        partial.write_text(json.dumps(said, indent=1), encoding="utf-8")
        os.replace(partial, folder / "state.json")
        for old in folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def load(self, folder: Path) -> None:
        """Go on from a written state.

        Raises
        ------
        ValueError
            If it is another recipe's.
        """
        said = json.loads((folder / "state.json").read_text("utf-8"))
        its = Recipe(**{**said["recipe"], "views": ViewSettings(**said["recipe"]["views"])})
        if not self.recipe.is_the_same_so_far(its, int(said["step"])):
            raise ValueError(f"{folder.name} holds a run of another recipe; give another folder.")
        tensors = load_file(folder / said["tensors"])
        parts: dict[str, dict] = {"learner": {}, "average": {}, "optimiser": {}}
        for key, value in tensors.items():
            part, _, rest = key.partition(".")
            parts[part][rest] = value
        self.learner.load_state_dict(parts["learner"])
        self.average = {k: v.to(self.device) for k, v in parts["average"].items()}
        state: dict[int, dict] = {}
        for key, value in parts["optimiser"].items():
            i, _, name = key.partition(".")
            state.setdefault(int(i), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.step = int(said["step"])


def settled(state: dict, architecture: str, batches: list[np.ndarray]):
    """A network with these weights whose BatchNorm statistics are those of ``batches`` (n, px, px, 3)."""
    import timm

    network = timm.create_model(architecture, pretrained=False, num_classes=0)
    network.load_state_dict(state)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    network.train()
    with torch.no_grad():
        for batch in batches:
            network(torch.from_numpy(batch).permute(0, 3, 1, 2))
    return network.eval()
