from __future__ import annotations

import pytest
import torch
from torch import nn

from ddad.networks.dcgan import ConvolutionalDecoder, ConvolutionalEncoder, initialise_as_published
from support import random_images


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (48, 3), (64, 1)])
def test_an_image_becomes_a_vector_and_a_vector_an_image(size: int, channels: int) -> None:
    encoder = ConvolutionalEncoder(size, channels, 4, 5).eval()
    decoder = ConvolutionalDecoder(size, channels, 4, 5).eval()
    images = random_images(2, channels, size)
    assert encoder.features(images).shape == (2, 32, size // 16, size // 16)
    code = encoder(images)
    assert code.shape == (2, 5)
    made = decoder(100 * code)
    assert made.shape == images.shape
    assert made.abs().max() <= 1


def test_layer_normalisation_keeps_images_apart_while_learning() -> None:
    images = random_images(4)
    critic = ConvolutionalEncoder(16, 1, 4, 1, norm="layer").train()
    torch.testing.assert_close(critic(images)[:1], critic(images[:1]))


def test_weights_are_drawn_as_published() -> None:
    encoder = ConvolutionalEncoder(64, 1, 16, 8)
    initialise_as_published(encoder)
    weights = torch.cat(
        [layer.weight.flatten() for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    ).detach()
    assert abs(float(weights.mean())) < 1e-3
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
