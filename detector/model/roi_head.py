"""The per-region head: conv5_x, average pooling, and two sibling layers (ResNet paper, appendix A; Fast R-CNN §2)."""

import torch
from torch import Tensor, nn

from detector.model.precision import at_least_float32


class RoIHead(nn.Module):
    """Classify every pooled RoI and refine its box for each class.

    Args:
        conv5_x: maps [R, C, 14, 14] to [R, C', 7, 7].
        channels: C', 2048 for ResNet-50 and deeper.
        num_classes: K foreground classes.
    """

    def __init__(self, conv5_x: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv5_x = conv5_x
        self.cls_score = nn.Linear(channels, num_classes + 1)
        self.bbox_pred = nn.Linear(channels, num_classes * 4)
        # Fast R-CNN §2.3: zero-mean Gaussians with deviations 0.01 and 0.001, biases 0.
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Score and refine RoIs.

        Args:
            pooled: [R, C, 14, 14].

        Returns:
            Class logits [R, K+1], column 0 the background, and deltas [R, K, 4], row l−1 for label l; both float32 or
            better.
        """
        return self.predict(self.conv5_x(pooled).mean(dim=(2, 3)))

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The two sibling layers: vectors [R, C'] to class logits [R, K+1] and deltas [R, K, 4]."""
        logits = at_least_float32(self.cls_score(vectors))
        deltas = at_least_float32(self.bbox_pred(vectors))
        return logits, torch.unflatten(deltas, 1, (-1, 4))  # unlike view(), this knows K when there are no RoIs
