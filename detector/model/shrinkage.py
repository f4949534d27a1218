"""Deep residual shrinkage: soft thresholds on the residual branch, learned from the branch itself (Zhao et al. 2020).

M. Zhao, S. Zhong, X. Fu, B. Tang, M. Pecht: Deep Residual Shrinkage Networks for Fault Diagnosis, §III. What a
threshold sets to zero does not reach the sum of a block, so a branch can drop what it takes for noise. A threshold is a
share, of 0 to 1, of the mean absolute value of the map that it is applied to: neither negative nor too large.

The authors published two codes for the small network that finds the share: C → C → C in the one for Keras, and
C → C/4 → C in the one for TFLearn. Followed is the second. In a bottleneck, whose output has four times the channels of
its 3×3 convolution, it is C → C/16 → C, which is a quarter of *those* channels: full width would add 40 million weights
to the 23.5 million of ResNet-50, this adds 2.5 million. Between the two layers the authors normalise over the batch,
which in a detector is one picture or two; here it is over the hidden vector.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ShrinkageKind = Literal["channel", "shared"]

FEWEST_HIDDEN = 4  # channels of the hidden vector: normalising fewer leaves nothing of them


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """Shrink values towards zero (Zhao et al. 2020, eq. 5): x − τ where x > τ, x + τ where x < −τ, else 0.

    Args:
        x: any shape.
        threshold: τ, not negative, of a shape that broadcasts with that of `x`.
    """
    # What is clamped off is exactly what remains: with τ = 0 that is x itself.
    return x - torch.minimum(torch.maximum(x, -threshold), threshold)


class Shrinkage(nn.Module):
    """The soft thresholding of one block, with the two layers that choose its thresholds.

    Args:
        channels: C of the branch.
        kind: `channel` gives every channel of a picture a threshold (DRSN-CW, figure 6b), `shared` one to all channels
            (DRSN-CS, figure 6a).
        reduction: C over the hidden vector's channels.
    """

    def __init__(self, channels: int, kind: ShrinkageKind, reduction: int) -> None:
        super().__init__()
        self.kind = kind
        hidden = max(channels // reduction, FEWEST_HIDDEN)
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, channels if kind == "channel" else 1)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.expand.weight, nonlinearity="relu")
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shrink the residual branch [N, C, H, W] of N pictures or regions, each by thresholds of its own."""
        return soft_threshold(x, self.thresholds(x))

    def thresholds(self, x: Tensor) -> Tensor:
        """τ of each channel, [N, C, 1, 1], or of all together, [N, 1, 1, 1]."""
        mean = x.abs().mean(dim=(2, 3))
        share = torch.sigmoid(self.expand(F.relu(self.norm(self.reduce(mean)))))
        if self.kind == "shared":
            mean = mean.mean(dim=1, keepdim=True)
        return (share * mean)[:, :, None, None]
