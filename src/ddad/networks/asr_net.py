"""ASR-Net F(·): refines discrepancy maps into one anomaly score map (section 3.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddad.discrepancy import image_score
from ddad.networks.statistics import pixel_statistics

_NEIGHBOURS = [(row, column) for row in range(3) for column in range(3)]


class ReplicatingConv2d(nn.Conv2d):
    """A convolution 3x3 that continues the image beyond its border: zeros there would show as a frame in a map."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, outputs, kernel_size=3, padding=1, padding_mode="replicate")

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (N, channels, H, W) to (N, outputs, H, W)."""
        # Autocast would pad in float32 and round twice; copying needs no precision.
        with torch.autocast(images.device.type, enabled=False):
            padded = functional.pad(images, (1, 1, 1, 1), mode=self.padding_mode)
        return functional.conv2d(padded, self.weight, self.bias)


class ASRNet(nn.Module):
    """Three convolutions 3x3, as published: discrepancy maps in, logits of the anomaly probability out.

    Args:
        inputs: names of the discrepancy maps that it reads, e.g. `("a_intra", "a_inter")`.
        width: channels of the two hidden layers.
    """

    def __init__(self, inputs: Sequence[str], width: int) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.layers = nn.Sequential(
            self._convolution(len(inputs), width), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            self._convolution(width, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.head = self._convolution(width, 2)

    def _convolution(self, channels: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(channels, outputs, kernel_size=3, padding=1)

    def forward(self, discrepancies: Tensor) -> Tensor:
        """Return logits (N, H, W) of the anomaly probability for discrepancies (N, inputs, H, W)."""
        return self._logits(discrepancies)

    def _logits(self, inputs: Tensor) -> Tensor:
        hidden = self.layers(inputs)
        # The output keeps full precision: a score is a mean over it, a heat map shows it.
        with torch.autocast(hidden.device.type, enabled=False):
            return _logit_difference(self.head, hidden.float())

    def refine(self, discrepancies: Tensor) -> Tensor:
        """Return the anomaly probability of every pixel, (N, H, W), for discrepancies (N, inputs, H, W)."""
        return torch.sigmoid(self(discrepancies))

    def image_score(self, discrepancies: Tensor) -> Tensor:
        """Return each image's score, (N,), for discrepancies (N, inputs, H, W)."""
        return image_score(self.refine(discrepancies))

    def refine_and_score(self, discrepancies: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `refine` and `image_score` do."""
        refined = self.refine(discrepancies)
        return refined, image_score(refined)


class AnchoredASRNet(ASRNet):
    """An ASR-Net that keeps the image score of its input: it redistributes the evidence inside an image.

    Each discrepancy is standardised, pixel by pixel, with what normal images show there. The last input so
    standardised (A_inter, or A_intra where it stands alone) is the anchor; its mean is the image's score.
    The convolutions see all inputs and learn the pseudo labels of FPI by themselves. Their logits, less the
    mean over the image, are added to the anchor: FPI teaches *where* an anomaly is, while *how much* there is
    stays what the discrepancy says. The anchor takes no part in the focal loss, where the convolutions would
    learn to cancel it (docs/explanation/asr-net.md).

    Args:
        inputs: names of the discrepancy maps that it reads.
        width: channels of the two hidden layers.
        image_size: side of the maps.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: Sequence[str], width: int, image_size: int) -> None:
        super().__init__(inputs, width)
        self.register_buffer("mean", torch.zeros(len(inputs), image_size, image_size))
        self.register_buffer("deviation", torch.ones(len(inputs), image_size, image_size))

    def _convolution(self, channels: int, outputs: int) -> nn.Conv2d:
        return ReplicatingConv2d(channels, outputs)

    def fit_normal_statistics(self, batches: Iterable[Tensor]) -> None:
        """Take what is usual at each pixel from the maps of normal images, batches of (N, inputs, H, W).

        More than one image in all.
        """
        mean, deviation = pixel_statistics(batches)
        self.mean.copy_(mean)
        # A pixel that hardly varies (the black border) must not shout: its deviation is held at a tenth of the mean.
        floor = 0.1 * deviation.mean(dim=(1, 2), keepdim=True) + torch.finfo(torch.float32).eps
        self.deviation.copy_(torch.maximum(deviation, floor))

    def standardise(self, discrepancies: Tensor) -> Tensor:
        """Return (A - mean) / deviation at each pixel, (N, inputs, H, W)."""
        return (discrepancies.float() - self.mean) / self.deviation

    def forward(self, discrepancies: Tensor) -> Tensor:
        """Return logits (N, H, W) of the anomaly probability for discrepancies (N, inputs, H, W)."""
        return self._logits(self.standardise(discrepancies))

    def refine(self, discrepancies: Tensor) -> Tensor:
        """Return the refined map (N, H, W), in normal images' standard deviations."""
        standardised = self.standardise(discrepancies)
        correction = self._logits(standardised)
        return standardised[:, -1] + correction - correction.mean(dim=(1, 2), keepdim=True)

    def image_score(self, discrepancies: Tensor) -> Tensor:
        """Return the mean of the anchor, (N,), which is that of the refined map: the convolutions need not run."""
        return image_score(self.standardise(discrepancies)[:, -1])

    def refine_and_score(self, discrepancies: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `refine` and `image_score` do."""
        return self.refine(discrepancies), self.image_score(discrepancies)


def _logit_difference(head: nn.Conv2d, hidden: Tensor) -> Tensor:
    """Return (N, H, W), the second output less the first of a convolution 3x3 with two outputs.

    The difference of two outputs is one convolution with one output, for which libraries have no fast way: here, one
    matrix product gives what each pixel contributes to its nine neighbours, and shifted sums gather it.
    """
    count, channels, height, width = hidden.shape
    weights = (head.weight[1] - head.weight[0]).reshape(channels, 9)
    pixels = hidden.permute(0, 2, 3, 1).reshape(-1, channels)
    contributions = (weights.T @ pixels.T).reshape(9, count, height, width)
    mode = "constant" if head.padding_mode == "zeros" else head.padding_mode
    padded = functional.pad(contributions, (1, 1, 1, 1), mode=mode)
    shifted = [padded[3 * row + column, :, row : row + height, column : column + width] for row, column in _NEIGHBOURS]
    assert head.bias is not None
    return torch.stack(shifted).sum(dim=0) + (head.bias[1] - head.bias[0])
