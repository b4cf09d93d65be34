from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ddad.networks.asr_net import AnchoredASRNet, ASRNet
from ddad.networks.factory import build_asr_net
from ddad.recipe import Recipe

SIZE = 16
INPUTS = {"r_intra": ("a_intra",), "r_dual": ("a_intra", "a_inter")}


def maps(count: int, inputs: int, size: int = SIZE, seed: int = 0) -> Tensor:
    """Discrepancies: positive, of very different sizes."""
    noise = torch.randn(count, inputs, size, size, generator=torch.Generator().manual_seed(seed))
    return torch.exp(noise - 2)


def shuffled_weights(network: nn.Module, seed: int, size: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            assert name.startswith(("layers", "head"))
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def anchored(inputs: tuple[str, ...], normals: Tensor, width: int = 8) -> AnchoredASRNet:
    network = AnchoredASRNet(inputs, width, normals.shape[-1])
    network.fit_normal_statistics([normals])
    return network


def test_the_layers_are_those_of_the_published_implementation() -> None:
    found = []
    for layer in ASRNet(("a_intra", "a_inter"), 128).modules():
        match layer:
            case nn.Conv2d():
                found.append((layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding))
            case nn.BatchNorm2d():
                found.append(("norm", layer.num_features))
            case nn.ReLU():
                found.append(("relu",))
    three = ((3, 3), (1, 1), (1, 1))
    assert found == [
        (2, 128, *three), ("norm", 128), ("relu",), (128, 128, *three), ("norm", 128), ("relu",), (128, 2, *three),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("inputs", INPUTS.values(), ids=list(INPUTS))
@pytest.mark.parametrize("kind", ["published", "anchored"])
def test_a_map_has_the_size_of_its_inputs(size: int, inputs: tuple[str, ...], kind: str) -> None:
    recipe = Recipe().changed({"refinement.network": kind, "refinement.width": 8, "images.image_size": size})
    network = build_asr_net(recipe, inputs).eval()
    assert isinstance(network, AnchoredASRNet) == (kind == "anchored")
    assert network.inputs == inputs
    discrepancies = maps(3, len(inputs), size)
    assert network(discrepancies).shape == (3, size, size)
    assert network.refine(discrepancies).shape == (3, size, size)


def test_the_map_is_the_softmax_over_both_classes() -> None:
    network = ASRNet(("a_intra",), 4).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        assert network.head.bias is not None
        network.head.bias.copy_(torch.tensor([0.3, 1.5]))
    expected = math.exp(1.5) / (math.exp(0.3) + math.exp(1.5))
    assert network.refine(maps(2, 1)).flatten().tolist() == pytest.approx([expected] * (2 * SIZE * SIZE))


def test_a_published_map_is_a_probability() -> None:
    network = ASRNet(("a_intra", "a_inter"), 8).eval()
    shuffled_weights(network, 4, 0.1)
    refined = network.refine(maps(3, 2))
    assert (refined > 0).all()
    assert (refined < 1).all()


@given(st.integers(0, 2**31), st.sampled_from(sorted(INPUTS)), st.floats(0.001, 2))
@settings(deadline=None, max_examples=40)
def test_the_score_is_the_mean_of_the_standardised_anchor_whatever_the_weights(
    seed: int, which: str, size: float
) -> None:
    inputs = INPUTS[which]
    network = anchored(inputs, maps(20, len(inputs), seed=1)).eval()
    shuffled_weights(network, seed, size)
    new = maps(4, len(inputs), seed=seed)
    with torch.no_grad():
        refined = network.refine(new)
        score = refined.double().mean((1, 2))
        anchor = network.standardise(new)[:, -1].double().mean((1, 2))
    # The corrections may be huge; they cancel up to the rounding of sums of that size.
    rounding = 1e-5 * max(1.0, refined.abs().max().item())
    torch.testing.assert_close(score, anchor, rtol=0, atol=rounding)


def test_other_weights_move_the_map_and_not_the_score() -> None:
    network = anchored(("a_intra", "a_inter"), maps(20, 2, seed=1)).eval()
    new = maps(3, 2, seed=2)
    with torch.no_grad():
        before = network.refine(new)
        shuffled_weights(network, 9, 0.2)
        after = network.refine(new)
    assert (before - after).abs().max() > 0.1
    torch.testing.assert_close(before.mean((1, 2)), after.mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_a_network_that_says_nothing_shows_its_anchor() -> None:
    normals = maps(20, 2, seed=1)
    network = anchored(("a_intra", "a_inter"), normals).eval()
    nn.init.zeros_(network.head.weight)
    new = maps(3, 2, seed=2)
    expected = (new[:, 1] - normals[:, 1].mean(0)) / normals[:, 1].std(0)
    torch.testing.assert_close(network.refine(new), expected, rtol=1e-3, atol=1e-3)


def test_the_anchor_takes_no_part_in_what_the_convolutions_learn() -> None:
    """The loss is of their logits alone: were the anchor added, they would learn to cancel it."""
    network = anchored(("a_intra", "a_inter"), maps(20, 2, seed=1)).eval()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    assert (network(5 * maps(3, 2, seed=2)) == 0).all()


def test_normal_images_score_around_nothing_and_larger_discrepancies_higher() -> None:
    normals = maps(200, 2, seed=1)
    network = anchored(("a_intra", "a_inter"), normals).eval()
    shuffled_weights(network, 3, 0.05)
    with torch.no_grad():
        usual = network.refine(maps(100, 2, seed=2)).mean((1, 2))
        larger = network.refine(3 * maps(100, 2, seed=2)).mean((1, 2))
    assert abs(usual.mean().item()) < 0.2
    assert (larger > usual + 0.5).all()


def test_the_anchor_is_the_last_input_alone() -> None:
    network = anchored(("a_intra", "a_inter"), maps(20, 2, seed=1)).eval()
    shuffled_weights(network, 5, 0.1)
    new = maps(3, 2, seed=2)
    other_first = new.clone()
    other_first[:, 0] *= 5
    other_last = new.clone()
    other_last[:, 1] *= 5
    with torch.no_grad():
        score, first, last = (network.refine(x).mean((1, 2)) for x in (new, other_first, other_last))
    torch.testing.assert_close(score, first, rtol=1e-4, atol=1e-4)
    assert ((last - score) > 0.5).all()


@pytest.mark.parametrize("constant_share", [0.1, 0.4, 0.75])
def test_pixels_that_never_vary_do_not_blow_up(constant_share: float) -> None:
    """A black border may cover most of an image; what little changes there must not drown the rest."""
    normals = maps(20, 2, seed=1)
    columns = round(constant_share * SIZE)
    normals[..., :columns] = 0.01
    network = anchored(("a_intra", "a_inter"), normals).eval()
    new = maps(4, 2, seed=2)
    new[..., :columns] = 0.01 + 1e-5
    with torch.no_grad():
        standardised = network.standardise(new)
        refined = network.refine(new)
    assert torch.isfinite(standardised).all()
    assert torch.isfinite(refined).all()
    assert standardised[..., :columns].abs().max() < 1


@pytest.mark.parametrize("kind", ["published", "anchored"])
def test_a_discrepancy_of_nothing_is_finite(kind: str) -> None:
    recipe = Recipe().changed({"refinement.network": kind, "refinement.width": 8, "images.image_size": SIZE})
    network = build_asr_net(recipe, ("a_intra",)).eval()
    if isinstance(network, AnchoredASRNet):
        network.fit_normal_statistics([maps(10, 1)])
    assert torch.isfinite(network.refine(torch.zeros(1, 1, SIZE, SIZE))).all()


def test_what_was_learned_of_normals_is_saved_with_the_weights() -> None:
    network = anchored(("a_intra",), maps(10, 1)).eval()
    shuffled_weights(network, 1, 0.1)
    copy = AnchoredASRNet(("a_intra",), 8, SIZE).eval()
    copy.load_state_dict(network.state_dict())
    new = maps(2, 1, seed=3)
    assert torch.equal(copy.refine(new), network.refine(new))


@pytest.mark.parametrize("kind", ["published", "anchored"])
def test_training_raises_the_map_in_patches(kind: str) -> None:
    recipe = Recipe().changed({"refinement.network": kind, "refinement.width": 8, "images.image_size": SIZE})
    torch.manual_seed(0)
    network = build_asr_net(recipe, ("a_intra",))
    x = maps(16, 1)
    if isinstance(network, AnchoredASRNet):
        network.fit_normal_statistics(maps(64, 1, seed=5).split(10))
    labels = torch.zeros(16, SIZE, SIZE)
    labels[:, 4:9, 5:10] = 1
    x = torch.where(labels[:, None] > 0, 4 * x, x)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(x), labels).backward()
        optimizer.step()
    learned = network(x)
    assert learned[labels > 0].mean() > learned[labels == 0].mean() + 1


@pytest.mark.parametrize("kind", ["published", "anchored"])
def test_the_head_is_the_difference_of_the_two_outputs_of_its_convolution(kind: str) -> None:
    torch.manual_seed(0)
    network = (
        ASRNet(["a_intra"], width=8) if kind == "published" else AnchoredASRNet(["a_intra"], width=8, image_size=12)
    )
    maps = torch.rand(3, 1, 12, 12)

    normal, abnormal = network.head(network.layers(maps)).unbind(dim=1)

    assert torch.allclose(network(maps), abnormal - normal, atol=1e-5)
    ours = torch.autograd.grad(network(maps).square().sum(), network.head.weight)[0]
    normal, abnormal = network.head(network.layers(maps)).unbind(dim=1)
    theirs = torch.autograd.grad((abnormal - normal).square().sum(), network.head.weight)[0]
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_anchored_network_continues_its_maps_beyond_the_border() -> None:
    torch.manual_seed(0)
    convolution = AnchoredASRNet(["a_intra"], width=4, image_size=12).layers[0]
    flat = torch.ones(1, 1, 12, 12, dtype=torch.bfloat16)

    with torch.autocast("cpu", torch.bfloat16):
        found = convolution(flat)

    assert found.shape == (1, 4, 12, 12)
    assert torch.equal(found, found[..., :1, :1].expand_as(found))  # a frame of zeros would differ at the border


@given(st.lists(st.integers(1, 7), min_size=2, max_size=5))
def test_the_statistics_do_not_depend_on_the_batches(sizes: list[int]) -> None:
    normals = maps(sum(sizes), 2) + 3
    whole, parts = (AnchoredASRNet(("a_intra", "a_inter"), 4, SIZE) for _ in range(2))
    whole.fit_normal_statistics([normals])
    parts.fit_normal_statistics(normals.split(sizes))
    assert torch.allclose(whole.mean, normals.mean(dim=0), atol=1e-6)
    assert torch.allclose(parts.mean, whole.mean, atol=1e-6)
    assert torch.allclose(parts.deviation, whole.deviation, atol=1e-6)
    steady = normals.std(dim=0)
    floor = 0.1 * steady.mean(dim=(1, 2), keepdim=True)
    assert torch.allclose(whole.deviation, torch.maximum(steady, floor), atol=1e-5)
