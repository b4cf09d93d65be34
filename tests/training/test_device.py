from __future__ import annotations

import torch

from ddad.training.device import Compute

CPU = Compute("cpu", "fp32")


def test_images_are_sent_in_channels_last_and_other_tensors_as_they_are() -> None:
    images, labels = torch.rand(2, 3, 4, 4), torch.rand(2, 4, 4)
    assert CPU.send(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(CPU.send(images), images)
    assert CPU.send(labels).data_ptr() == labels.data_ptr()


def test_networks_are_read_exactly_and_without_gradients() -> None:
    usual = torch.backends.cudnn.allow_tf32
    with Compute("cuda", "fp32").inference():
        assert torch.is_inference_mode_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32
    assert not torch.is_inference_mode_enabled()
    assert torch.backends.cudnn.allow_tf32 == usual
