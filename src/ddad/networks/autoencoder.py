"""The convolutional autoencoder of section 4.2, and its variant that predicts its own uncertainty (AE-U)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddad.networks.doubling import DoublingConvTranspose2d

HIDDEN = 2048  # width of the layers beside the code, at every image size


class Autoencoder(nn.Module):
    """Four strided convolutions down to a short code, and the mirrored way back.

    Encoder 16-32-64-64 with kernel 4 and stride 2, then linear layers to a code of `latent_size`; every layer is
    followed by batch normalisation and ReLU, but for the code, the linear layer before the first transposed
    convolution, and the output (section 4.2, and the published code, which has four linear layers where the text says
    three). The linear layers grow with the image: 4 million weights at 64 pixels, 17 at 128, 67 at 256, 268 at 512.

    Args:
        image_size: side of the square input, a multiple of 16.
        channels: input channels.
        latent_size: length of the code.
        predict_uncertainty: AE-U (Mao et al. 2020): a second set of output channels holds log σ² for
            every pixel.
        decoded_size: length of what the decoder takes, where that is not the encoder's output.
    """

    def __init__(
        self,
        image_size: int,
        channels: int = 1,
        latent_size: int = 16,
        *,
        predict_uncertainty: bool = False,
        decoded_size: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.predict_uncertainty = predict_uncertainty
        grid = image_size // 16
        self.encoder = nn.Sequential(
            _halve(channels, 16), _halve(16, 32), _halve(32, 64), _halve(64, 64), nn.Flatten(),
            nn.Linear(64 * grid * grid, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, latent_size),
        )  # fmt: skip
        outputs = 2 * channels if predict_uncertainty else channels
        self.decoder = nn.Sequential(
            nn.Linear(decoded_size or latent_size, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, 64 * grid * grid), nn.Unflatten(1, (64, grid, grid)),
            _double(64, 64), _double(64, 32), _double(32, 16),
            DoublingConvTranspose2d(16, outputs),
        )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reconstruct `images`, (N, C, S, S) in [-1, 1].

        Returns:
            The reconstruction (N, C, S, S), and log σ² (N, C, S, S) or None without uncertainty.
        """
        return self.decode(self.encoder(images))

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor | None]:
        """Turn a code (N, latent_size) into a reconstruction and, for AE-U, log σ²."""
        output: Tensor = self.decoder(code).float()
        if not self.predict_uncertainty:
            return output, None
        reconstruction, log_variance = output.chunk(2, dim=1)
        return reconstruction, log_variance

    def loss(self, images: Tensor) -> Tensor:
        """Mean squared error (equations 1 and 2), or for AE-U its likelihood form (equation 5)."""
        reconstruction, log_variance = self(images)
        squared_error: Tensor = (images - reconstruction) ** 2
        if log_variance is None:
            return squared_error.mean()
        likelihood: Tensor = torch.exp(-log_variance) * squared_error + log_variance
        return likelihood.mean()


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
