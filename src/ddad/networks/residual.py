"""ResNet-18 (He et al. 2016), as wide and as deep in strides as small images need it."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualNetwork(nn.Module):
    """Four stages of two residual blocks; the first convolution is 3x3, and nothing is pooled before the stages.

    Args:
        channels: of the image.
        width: channels of the first stage; doubled at each one after.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stages: list[nn.Module] = [
            nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        before = width
        for stage in range(4):
            after = width * 2**stage
            stages += [
                ResidualBlock(before, after, stride=1 if stage == 0 else 2),
                ResidualBlock(after, after, stride=1),
            ]
            before = after
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 8 width, S / 16, S / 16) of images (N, C, S, S) in [-1, 1]."""
        features: Tensor = self.stages(images)
        return features


class ResidualBlock(nn.Module):
    """Two convolutions 3x3 around which the input is led."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.lead = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the next resolution."""
        return nn.functional.relu(self.lead(features) + self.layers(features))
