"""PGD-AT, TRADES and squeeze training in PyTorch: steps as short as the algorithms allow.

No forward or gradient is taken that the algorithm can do without. (The released programs forward
the clean images again and again.) Batch normalization is that of the programs: running averages in
the attacks of PGD-AT and TRADES, statistics of the batch in that of squeeze training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

Images = torch.Tensor


class Ball(NamedTuple):
    """An L-inf ball cut to [0, 1], and the steps in it."""

    eps: float
    step_size: float
    steps: int

    def project(self, x_adv: Images, x: Images) -> Images:
        """The nearest point of the ball around x."""
        return torch.min(torch.max(x_adv, x - self.eps), x + self.eps).clamp(0.0, 1.0)

    def step(self, x_adv: Images, gradient: Images, x: Images) -> Images:
        """One step along the signs of a gradient."""
        return self.project(x_adv.detach() + self.step_size * gradient.sign(), x)

    def ascend(self, loss: Callable[[Images], torch.Tensor], x: Images, start: Images) -> Images:
        """All steps from `start`, up the gradient of `loss`."""
        x_adv = self.project(start, x)
        for _ in range(self.steps):
            x_adv.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(x_adv), x_adv)
            x_adv = self.step(x_adv, gradient, x)
        return x_adv


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of logits, (B,)."""
    log_p, log_q = F.log_softmax(p, 1), F.log_softmax(q, 1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def symmetric_kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """As in the program of squeeze training: the first arguments are held fixed."""
    return 0.5 * (kl(p.detach(), q) + kl(q.detach(), p))


class Step:
    """A training step; a subclass is one algorithm.

    Args:
      network: module, images (B, C, H, W) to logits.
      ball: of the attack.
      beta: weight of the regularizer, where there is one.
      half: computes in float16 where PyTorch's autocast does, on a GPU, with its scaled losses.
    """

    def __init__(self, network: torch.nn.Module, ball: Ball, beta: float = 6.0, half: bool = False):
        self.module, self.ball, self.beta, self.half = network, ball, beta, half
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cuda", enabled=half)
        # So that gradients for images, of which signs alone matter, are not lost in float16.
        self.scale = 1024.0 if half else 1.0

    def network(self, x: Images) -> torch.Tensor:
        """Logits, float32."""
        if not self.half:
            return self.module(x)
        with torch.autocast("cuda", torch.float16):
            return self.module(x).float()

    def starts(self, x: Images) -> list[Images]:
        """Where the attack starts, drawn anew."""
        raise NotImplementedError

    def images(self, x: Images, y: torch.Tensor, starts: list[Images]) -> Any:
        """What the attack makes; the network is left in training mode."""
        raise NotImplementedError

    def loss(self, x: Images, y: torch.Tensor, made: Any) -> torch.Tensor:
        """The loss of the batch, a scalar."""
        raise NotImplementedError

    def __call__(self, x: Images, y: torch.Tensor, starts: list[Images] | None = None) -> float:
        """Attack, loss, gradient and update."""
        loss = self.loss(x, y, self.images(x, y, self.starts(x) if starts is None else starts))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(loss.detach())


class PGDAT(Step):
    """Madry et al. (2018): cross-entropy of adversarial images."""

    def starts(self, x: Images) -> list[Images]:
        return [x + self.ball.eps * (2 * torch.rand_like(x) - 1)]

    def images(self, x: Images, y: torch.Tensor, starts: list[Images]) -> Images:
        self.module.eval()

        def loss(x_adv: Images) -> torch.Tensor:
            return self.scale * F.cross_entropy(self.network(x_adv), y, reduction="sum")

        x_adv = self.ball.ascend(loss, x, starts[0])
        self.module.train()
        return x_adv

    def loss(self, x: Images, y: torch.Tensor, made: Images) -> torch.Tensor:
        return F.cross_entropy(self.network(made), y)


class TRADES(PGDAT):
    """Zhang et al. (2019)."""

    def starts(self, x: Images) -> list[Images]:
        return [x + 0.001 * torch.randn_like(x)]

    def images(self, x: Images, y: torch.Tensor, starts: list[Images]) -> Images:
        self.module.eval()
        with torch.no_grad():
            clean = self.network(x)

        def loss(x_adv: Images) -> torch.Tensor:
            return self.scale * kl(clean, self.network(x_adv)).sum()

        x_adv = self.ball.ascend(loss, x, starts[0])
        self.module.train()
        return x_adv

    def loss(self, x: Images, y: torch.Tensor, made: Images) -> torch.Tensor:
        clean, adversarial = self.network(x), self.network(made)
        return F.cross_entropy(clean, y) + self.beta * kl(clean, adversarial).mean()


class SqueezeTraining(Step):
    """Li et al. (2023): the two extremes of three candidates are moved, and squeezed, together."""

    def starts(self, x: Images) -> list[Images]:
        return [x + 0.001 * torch.randn_like(x) for _ in range(2)]

    def pair(self, logits: list[torch.Tensor], y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Which candidate makes y least likely, and which most, (B,) each."""
        own = torch.stack([F.softmax(one, 1).gather(1, y[:, None])[:, 0] for one in logits])
        return own.argmin(0), own.argmax(0)

    def apart(self, logits: list[torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        """R between the two extreme candidates, (B,)."""
        upper, lower = self.pair(logits, y)
        return symmetric_kl(pick(logits, upper), pick(logits, lower))

    def images(self, x: Images, y: torch.Tensor, starts: list[Images]) -> tuple[Images, Images]:
        self.module.train()
        x = x.clone().requires_grad_()
        clean, still = self.network(x), x.detach()
        x_adv, x_col = (self.ball.project(start, still) for start in starts)
        for _ in range(self.ball.steps):
            moving = [x_col.requires_grad_(), x_adv.requires_grad_()]
            logits = [clean, *map(self.network, moving)]
            upper, lower = self.pair(logits, y)
            # The gradient at the clean images is taken where an example chose its own.
            chosen = bool(((upper == 0) | (lower == 0)).any())
            value = symmetric_kl(pick(logits, upper), pick(logits, lower)).sum()
            wanted = [x, *moving] if chosen else moving
            found = torch.autograd.grad(self.scale * value, wanted, retain_graph=True)
            gradients = [*([] if chosen else [torch.zeros_like(still)]), *found]
            images = [still, *(one.detach() for one in moving)]
            x_adv, x_col = (
                self.ball.step(pick(images, role), pick(gradients, role), still)
                for role in (upper, lower)
            )
        return x_adv, x_col

    def loss(self, x: Images, y: torch.Tensor, made: tuple[Images, Images]) -> torch.Tensor:
        x_adv, x_col = made
        logits = [self.network(images) for images in (x, x_col, x_adv)]
        return F.cross_entropy(logits[0], y) + self.beta * self.apart(logits, y).mean()


def pick(candidates: list[torch.Tensor], index: torch.Tensor) -> torch.Tensor:
    """For each example the candidate of that position."""
    shape = [-1] + [1] * (candidates[0].dim() - 1)
    picked = candidates[0]
    for position, candidate in enumerate(candidates[1:], start=1):
        picked = torch.where((index == position).view(shape), candidate, picked)
    return picked


STEPS = {"PGD-AT": PGDAT, "TRADES": TRADES, "ST": SqueezeTraining}
