"""Stock modules and losses train under `canonical()`. Kernels and reference definitions give equal
bits. Both precisions are close to stock float32."""

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn import functional

from workloads.core.state import state_digest
from workloads.numerics.mode import Backend, NonCanonicalOperator, Precision, canonical
from workloads.numerics.optim import SGD, AdamW

WIDTH = 16


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))


class Cnn(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 4, 4)),
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=1),
            nn.Conv2d(6, 8, 2, groups=2),
            nn.LeakyReLU(),
            nn.AvgPool2d(1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cells = kind(4, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x.view(-1, 4, 4))[0][:, -1])


class Encoder(nn.Module):
    """Torch's encoder layer with padding masks, and dropout inside attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True, activation="gelu")
        self.embed, self.head = nn.Embedding(9, WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x.abs() * 4).long().clamp(0, 8)[:, :6]
        hidden = self.layer(self.embed(tokens), src_key_padding_mask=tokens == 8)
        return self.head(hidden.mean(1))


class RmsNorm(nn.Module):
    """RMSNorm from single operators, as many models write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Decoder(nn.Module):
    """Causal attention with rotary positions, RMSNorm, SwiGLU, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, WIDTH)
        self.first, self.second, self.last = RmsNorm(WIDTH), nn.RMSNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.gate, self.up, self.down = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x.abs() * 4).long().clamp(0, 8)
        h = self.embed(tokens)
        q, k, v = (
            one.view(*tokens.shape, 2, 8).transpose(1, 2)
            for one in self.qkv(self.first(h)).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(_turn(q), _turn(k), v, is_causal=True)
        h = h + mixed.transpose(1, 2).reshape(h.shape)
        g = self.second(h)
        h = h + self.down(functional.silu(self.gate(g)) * self.up(g))
        return functional.linear(self.last(h), self.embed.weight)[:, -1, :4]


def _turn(x: torch.Tensor) -> torch.Tensor:
    angles = torch.arange(x.shape[2])[:, None] / 100.0 ** (torch.arange(0, 8, 2) / 8)
    cos, sin = torch.cos(angles), torch.sin(angles)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": Mlp,
    "cnn": Cnn,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "encoder": Encoder,
    "decoder": Decoder,
}
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.1),
    "mse": lambda out, y: functional.mse_loss(out, functional.one_hot(y, 4).float()),
    "bce": lambda out, y: functional.binary_cross_entropy_with_logits(
        out, functional.one_hot(y, 4).float()
    ),
}


def _train(build: Callable[[], nn.Module], loss_of: Any, mode: Any) -> tuple[str, float]:
    """Three steps with accumulation over two batches, clipping and a schedule, then evaluation."""
    with mode():
        torch.manual_seed(0)
        model = build()
        x, y = torch.rand(2, 10, WIDTH) * 2 - 1, torch.randint(0, 4, (2, 10))
        optimizer = AdamW(model.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=3)
        for _ in range(3):
            optimizer.zero_grad()
            for batch, target in zip(x, y, strict=True):
                (loss_of(model(batch), target) / 2).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            loss = float(loss_of(model(x[0]), y[0]))
    return state_digest(model.state_dict()), loss


def _canonical(precision: str, backend: str = "kernels") -> Callable[[], Any]:
    return lambda: canonical(cast("Precision", precision), backend=cast("Backend", backend))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_trains_to_equal_bits_by_kernels_and_by_reference_definitions(model: str) -> None:
    for precision in ("highest", "high"):
        by_kernels = _train(MODELS[model], LOSSES["cross_entropy"], _canonical(precision))
        by_reference = _train(
            MODELS[model], LOSSES["cross_entropy"], _canonical(precision, "reference")
        )
        assert by_kernels == by_reference
        assert math.isfinite(by_kernels[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_train_to_equal_bits_and_high_is_close_to_highest(loss: str) -> None:
    highest = _train(MODELS["mlp"], LOSSES[loss], _canonical("highest"))
    assert highest == _train(MODELS["mlp"], LOSSES[loss], _canonical("highest", "reference"))
    high = _train(MODELS["mlp"], LOSSES[loss], _canonical("high"))
    assert high[0] != highest[0]
    assert high[1] == pytest.approx(highest[1], rel=1e-3)


@pytest.mark.parametrize("model", ["mlp", "decoder", "cnn", "gru"])
def test_gradients_are_those_of_float64(model: str) -> None:
    """Stock float64 on the same parameters; dropout off."""
    torch.manual_seed(0)
    built = MODELS[model]().eval()
    x, y = torch.rand(10, WIDTH) * 2 - 1, torch.randint(0, 4, (10,))
    with canonical():
        functional.cross_entropy(built(x), y).backward()
    ours = {name: p.grad.double() for name, p in built.named_parameters() if p.grad is not None}
    built.zero_grad()
    wide = built.double()
    functional.cross_entropy(wide(x.double()), y).backward()
    assert ours
    for name, p in wide.named_parameters():
        assert p.grad is not None
        distance = (ours[name] - p.grad).norm() / p.grad.norm().clamp_min(1e-6)
        assert float(distance) < 3e-6, name


def test_an_operator_without_a_definition_is_refused_by_name_and_place() -> None:
    with (
        canonical(),
        pytest.raises(
            NonCanonicalOperator, match=r"linalg_qr.*test_modules\.py.*uniform or normal"
        ),
    ):
        torch.linalg.qr(torch.eye(3))


def test_a_fused_stock_optimizer_is_refused_with_what_to_use_instead() -> None:
    model = nn.Linear(2, 2)
    stock = torch.optim.AdamW(model.parameters(), fused=True)
    with canonical():
        model(torch.ones(1, 2)).sum().backward()
        with pytest.raises(NonCanonicalOperator, match=r"workloads\.numerics\.optim\.AdamW"):
            stock.step()


def test_a_result_does_not_depend_on_what_ran_before_or_on_the_order_of_memory() -> None:
    x = torch.rand(8, WIDTH)
    with canonical():
        torch.manual_seed(0)
        layer = nn.Linear(WIDTH, 3)
        one = layer(x)
        other = layer(x.t().contiguous().t())
    assert torch.equal(one, other)


def test_sgd_in_and_out_of_the_mode_takes_the_same_step() -> None:
    weights = []
    for inside in (True, False):
        p = nn.Parameter(torch.linspace(-1, 1, 50))
        p.grad = torch.linspace(2, -3, 50)
        optimizer = SGD([p], lr=0.1, momentum=0.9, weight_decay=0.1)
        if inside:
            with canonical():
                optimizer.step()
        else:
            optimizer.step()
        weights.append(p.detach())
    assert torch.equal(*weights)


def test_a_context_within_a_context_goes_by_the_inner_one() -> None:
    a, b = torch.rand(64, 64), torch.rand(64, 64)

    def product(precision: Precision) -> torch.Tensor:
        with canonical(precision):
            return a @ b

    coarse, fine = product("high"), product("highest")
    seen: list[str] = []

    def observe(operator: Any, run: Any, args: Any, kwargs: Any) -> Any:
        seen.append(str(operator))
        return run(*args, **kwargs)

    with canonical("high", observer=observe):
        with canonical("highest"):
            inner = torch.exp(a @ b)
        outer = a @ b
    assert torch.equal(inner, _exp(fine))
    assert torch.equal(outer, coarse)
    assert not torch.equal(coarse, fine)
    assert seen == ["aten.mm.default", "aten.exp.default", "aten.mm.default"]


def _exp(x: torch.Tensor) -> torch.Tensor:
    with canonical():
        return torch.exp(x)
