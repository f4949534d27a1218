"""From pixels to network input: subtract the mean, divide by the standard deviation, channel by channel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.structures import ImageBatch


class PixelNormalization(nn.Module):
    """(pixel − mean) / std for every channel.

    Its two constants come from the config, not from a weights file, so they are no part of the state dict.

    Args:
        mean, std: of the channels R, G, B, on the scale 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: ImageBatch) -> Tensor:
        """Pixels [N, 3, H, W], 0 to 255, to network input in the constants' type; padding is zero *after* this."""
        pixels = (images.pixels.to(self.mean.dtype) - self.mean) / self.std
        for image, (height, width) in zip(pixels, images.sizes, strict=True):
            image[:, height:, :] = 0
            image[:, :, width:] = 0
        return pixels
