"""Minimal filtering along one axis: m outputs of a filter with r taps from m + r - 1 products, not from m·r.

The outputs are coefficients in a product of polynomials, and its values at m + r - 1 points determine them (Winograd;
Lavin and Gray, arXiv 1509.09308, §4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Where the polynomials of three taps are evaluated, besides infinity. Small and spread, so that powers neither grow nor
# cancel much (after Barabasz et al., arXiv 1803.10986), and such that float32 holds all but the weights' transform
# exactly. With 0, ±1 and ±2 the error doubles.
EVALUATED_AT = (0.0, 0.75, -0.75, 1.5, -1.5)


@dataclass(frozen=True)
class Filtering:
    """The matrices of y = output · ((weight · g) ⊙ (window · d)), float64.

    window: [P, inputs], for d, what a tile sees. weight: [P, r], for g, the taps. output: [m, P], for the P products.
    """

    window: Tensor
    weight: Tensor
    output: Tensor


def minimal(outputs: int, taps: int, points: Sequence[float]) -> Filtering:
    """F(m, r), of Lavin and Gray §4: m outputs of r taps from m + r - 1 products.

    Args:
        outputs, taps: m and r, at least 1 and 2.
        points: the first m + r - 2 are evaluated at, and infinity.
    """
    points = points[: outputs + taps - 2]
    output, weight, window = (_evaluation(points, terms) for terms in (outputs, taps, outputs + taps - 1))
    # Filtering is the transpose of multiplying polynomials, so the inverse of evaluation acts on the inputs. Its odd
    # denominators are left to the weights, which are transformed once and in float64.
    inverse = torch.linalg.inv(window).T
    scale = torch.cat((inverse[:-1, -2], inverse[-1:, -1]))[:, None]
    return Filtering(inverse / scale, scale * weight, output.T)


def _evaluation(points: Sequence[float], terms: int) -> Tensor:
    """[P, terms]: a polynomial's coefficients to its values; at infinity that is the coefficient of its top power."""
    finite = torch.tensor(points, dtype=torch.float64)[:, None] ** torch.arange(terms)
    return torch.cat((finite, F.one_hot(torch.tensor([terms - 1]), terms).double()))


def constant(output: Tensor) -> Tensor:
    """Products [P] that `output`, [m, P], turns into m ones: multiplied by a bias they add it to every output."""
    return torch.linalg.pinv(output).sum(dim=1)


def for_each(matrix: Tensor, tiles: Tensor, out: Tensor | None = None) -> Tensor:
    """A matrix [a, b] times each of t tiles [t, b, C]: [t, a, C], in `out` where that is given."""
    return torch.bmm(matrix.expand(tiles.shape[0], -1, -1), tiles, out=out)
