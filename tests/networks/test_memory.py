from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddad.networks.autoencoder import Autoencoder
from ddad.networks.memory import MemoryAutoencoder


def network(size: int = 32, channels: int = 1, *, slots: int = 25, weight: float = 2e-4) -> MemoryAutoencoder:
    torch.manual_seed(0)
    return MemoryAutoencoder(size, channels, slots=slots, entropy_weight=weight)


def images(count: int, channels: int = 1, size: int = 32) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_reconstruction_has_the_shape_of_its_image(size: int, channels: int) -> None:
    x = images(2, channels, size)
    with torch.no_grad():
        reconstruction, log_variance = network(size, channels)(x)
    assert reconstruction.shape == x.shape
    assert log_variance is None


def test_it_is_the_autoencoder_and_25_slots_of_the_codes_length() -> None:
    torch.manual_seed(0)
    plain = sum(p.numel() for p in Autoencoder(64).parameters())
    assert sum(p.numel() for p in network(64).parameters()) == plain + 25 * 16


@pytest.mark.parametrize("slots", [2, 25, 60])
def test_addressing_is_a_share_of_each_slot_and_sums_to_1(slots: int) -> None:
    model = network(slots=slots)
    code = 30 * torch.randn(50, 16, generator=torch.Generator().manual_seed(2))
    weights = model.address(code)
    assert weights.shape == (50, slots)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(50))


def test_addressing_is_the_softmax_of_products_by_hand() -> None:
    model = network(slots=2)
    with torch.no_grad():
        model.memory.zero_()
        model.memory[0, 0], model.memory[1, 1] = 1.0, 2.0
    code = torch.zeros(1, 16)
    code[0, 0], code[0, 1] = 3.0, 1.0
    first, second = math.exp(3), math.exp(2)
    expected = [first / (first + second), second / (first + second)]
    assert model.address(code)[0].tolist() == pytest.approx(expected)


def test_nothing_but_the_memory_reaches_the_decoder() -> None:
    """Whatever the image, its reconstruction comes from a mean of the slots: equal slots, equal pictures."""
    model = network().eval()
    x = images(5)
    with torch.no_grad():
        model.memory.copy_(1000 * torch.randn(model.memory.shape, generator=torch.Generator().manual_seed(0)))
    assert (model(x)[0] - model(x)[0][:1]).abs().max() > 1e-3
    with torch.no_grad():
        model.memory.copy_(model.memory[:1].expand_as(model.memory).clone())
    same, _ = model(x)
    from_memory, _ = model.decode(model.memory[:1])
    torch.testing.assert_close(same, from_memory.expand_as(same), rtol=1e-4, atol=1e-5)


def test_the_rebuilt_code_lies_within_the_memory_items() -> None:
    model = network().eval()
    seen: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images(8))
    (code,) = seen
    assert (code <= model.memory.max(dim=0).values + 1e-6).all()
    assert (code >= model.memory.min(dim=0).values - 1e-6).all()
    # An affine mean with weights that sum to 1: moving all slots moves the code by as much.
    weights = model.address(model.encoder(images(8)))
    torch.testing.assert_close(weights @ (model.memory + 1), code + 1, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_squared_error_and_the_weighted_entropy() -> None:
    x = images(4)
    plain, weighted = network(weight=0.0).eval(), network(weight=0.5).eval()
    error = ((x - plain(x)[0]) ** 2).mean().item()
    assert plain.loss(x).item() == pytest.approx(error, rel=1e-5)
    shares = weighted.address(weighted.encoder(x)).double()
    entropy = -(shares * shares.log()).sum(1).mean().item()
    assert weighted.loss(x).item() == pytest.approx(error + 0.5 * entropy, rel=1e-5)


def test_the_entropy_of_an_even_address_is_the_logarithm_of_the_slots_and_of_a_sharp_one_nothing() -> None:
    model, x = network(slots=25, weight=1.0).eval(), images(3)
    error = ((x - model(x)[0]) ** 2).mean().item()
    with torch.no_grad():
        model.memory.zero_()
    even = model.loss(x).item() - ((x - model(x)[0]) ** 2).mean().item()
    assert even == pytest.approx(math.log(25), rel=1e-4)
    assert math.isfinite(error)
    with torch.no_grad():
        model.memory.zero_()
        model.memory[0] = 1e4 * torch.sign(model.encoder(x)[0])
    sharp = model.loss(x[:1]).item() - ((x[:1] - model(x[:1])[0]) ** 2).mean().item()
    assert sharp == pytest.approx(0, abs=1e-3)


def test_the_memory_learns() -> None:
    model = network()
    model.loss(images(4)).backward()
    assert model.memory.grad is not None
    assert model.memory.grad.abs().max() > 0
