from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ddad.networks.autoencoder import Autoencoder
from ddad.networks.factory import build_autoencoder
from ddad.recipe_sections import Preprocessing, Reconstruction


def network(
    size: int = 32, channels: int = 1, *, uncertain: bool = False, latent: int = 16, seed: int = 0
) -> Autoencoder:
    torch.manual_seed(seed)
    return Autoencoder(size, channels, latent, predict_uncertainty=uncertain)


def images(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("uncertain", [False, True])
def test_a_reconstruction_has_the_shape_of_its_image(size: int, channels: int, uncertain: bool) -> None:
    x = images(2, channels, size)
    with torch.no_grad():
        reconstruction, log_variance = network(size, channels, uncertain=uncertain)(x)
    assert reconstruction.shape == x.shape
    assert reconstruction.dtype == torch.float32
    if uncertain:
        assert log_variance is not None
        assert log_variance.shape == x.shape
    else:
        assert log_variance is None


@pytest.mark.parametrize(("size", "grid"), [(16, 1), (64, 4), (128, 8)])
def test_the_layers_are_those_of_the_published_implementation(size: int, grid: int) -> None:
    found = []
    for layer in network(size).modules():
        match layer:
            case nn.ConvTranspose2d() | nn.Conv2d():
                settings = (layer.kernel_size, layer.stride, layer.padding)
                assert settings == ((4, 4), (2, 2), (1, 1))
                kind = "up" if isinstance(layer, nn.ConvTranspose2d) else "down"
                found.append((kind, layer.in_channels, layer.out_channels, layer.bias is not None))
            case nn.Linear():
                found.append(("linear", layer.in_features, layer.out_features, layer.bias is not None))
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                found.append(("norm", layer.num_features))
            case nn.ReLU():
                found.append(("relu",))
    flat = 64 * grid * grid
    assert found == [
        ("down", 1, 16, False), ("norm", 16), ("relu",),
        ("down", 16, 32, False), ("norm", 32), ("relu",),
        ("down", 32, 64, False), ("norm", 64), ("relu",),
        ("down", 64, 64, False), ("norm", 64), ("relu",),
        ("linear", flat, 2048, True), ("norm", 2048), ("relu",), ("linear", 2048, 16, True),
        ("linear", 16, 2048, True), ("norm", 2048), ("relu",), ("linear", 2048, flat, True),
        ("up", 64, 64, False), ("norm", 64), ("relu",),
        ("up", 64, 32, False), ("norm", 32), ("relu",),
        ("up", 32, 16, False), ("norm", 16), ("relu",),
        ("up", 16, 1, True),
    ]  # fmt: skip


def test_the_published_network_has_this_many_parameters() -> None:
    assert sum(p.numel() for p in network(64).parameters()) == 4_487_249
    # One more output channel of the last layer: 16 × 4 × 4 weights and a bias.
    assert sum(p.numel() for p in network(64, uncertain=True).parameters()) == 4_487_249 + 16 * 16 + 1


def test_the_code_is_as_long_as_asked_for() -> None:
    model = network(32, latent=5)
    code = model.encoder(images(3, 1, 32))
    assert code.shape == (3, 5)
    assert model.decode(code)[0].shape == (3, 1, 32, 32)


def test_the_code_and_the_output_are_plain() -> None:
    """Neither is squashed or cut off: both take negative values, and the output may leave [-1, 1]."""
    model = network(32).eval()
    assert (model.encoder(images(16, 1, 32)) < 0).any()
    last = [layer for layer in model.modules() if isinstance(layer, nn.ConvTranspose2d)][-1]
    with torch.no_grad():
        assert last.bias is not None
        last.bias.fill_(-7.0)
    assert (model(images(2, 1, 32))[0] < -2).all()


def test_the_loss_of_an_autoencoder_is_the_mean_squared_error() -> None:
    model, x = network().eval(), images(3, 1, 32)
    reconstruction, _ = model(x)
    assert model.loss(x).item() == pytest.approx(((x - reconstruction) ** 2).sum().item() / x.numel(), rel=1e-5)


def test_the_loss_with_uncertainty_is_equation_5_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(16, uncertain=True)
    x = torch.full((1, 1, 16, 16), 0.5)
    reconstruction = torch.full_like(x, 0.2)
    reconstruction[..., 0] = 0.5
    log_variance = torch.full_like(x, math.log(0.04))
    monkeypatch.setattr(model, "forward", lambda _: (reconstruction, log_variance))
    # 15 of 16 columns have an error of 0.09 / 0.04, one has none; log 0.04 is paid everywhere.
    assert model.loss(x).item() == pytest.approx(15 / 16 * 0.09 / 0.04 + math.log(0.04), rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_log_variance_come_from_different_outputs(channels: int) -> None:
    model = network(32, channels, uncertain=True).eval()
    x = images(2, channels, 32)
    last = [layer for layer in model.modules() if isinstance(layer, nn.ConvTranspose2d)][-1]
    before, variance_before = model(x)
    with torch.no_grad():
        assert last.bias is not None
        last.bias[channels:] += 5
    after, variance_after = model(x)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(variance_after, variance_before + 5)


def test_equation_5_is_least_where_the_variance_is_the_squared_error() -> None:
    model = network(16, uncertain=True)
    x = images(2, 1, 16)
    error = 0.1

    def loss(log_variance: float) -> float:
        model.forward = lambda _: (x - error, torch.full_like(x, log_variance))  # type: ignore[method-assign]
        return model.loss(x).item()

    best = math.log(error**2)
    assert loss(best) < loss(best - 0.2)
    assert loss(best) < loss(best + 0.2)


@pytest.mark.parametrize("uncertain", [False, True])
def test_training_lowers_the_loss(uncertain: bool) -> None:
    model, x = network(16, uncertain=uncertain), images(12, 1, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    first = model.loss(x).item()
    for _ in range(20):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    assert model.loss(x).item() < 0.7 * first


def test_an_image_is_reconstructed_alone_once_trained() -> None:
    model, x = network(32).eval(), images(6, 1, 32)
    together = model(x)[0]
    alone = torch.cat([model(x[n : n + 1])[0] for n in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "uncertain", "memory"), [("ae", False, False), ("ae-u", True, False), ("memae", False, True)]
)
def test_a_recipe_builds_the_backbone_it_names(backbone: str, uncertain: bool, memory: bool) -> None:
    settings = Reconstruction.model_validate({"backbone": backbone, "latent_size": 7, "memory_slots": 9})
    model = build_autoencoder(Preprocessing(image_size=32, channels=3), settings).eval()
    reconstruction, log_variance = model(images(2, 3, 32))
    assert reconstruction.shape == (2, 3, 32, 32)
    assert (log_variance is not None) == uncertain
    assert any(p.shape == (9, 7) for p in model.parameters()) == memory
