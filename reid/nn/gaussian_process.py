"""Gaussian-process regression of where features lie, with a cosine kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ShapeError
from reid.nn.dtype import at_least_float32

JITTERS = (1e-6, 1e-4, 1e-2)
"""What is added to the diagonal of a matrix that has no Cholesky factor, one after the other; its entries are 0..1."""


class GaussianProcess(nn.Module):
    """Tell from features where they lie in an image whose features and positions are known.

    What is regressed is an embedding of positions, ``chi(p) = cos(8 pi (W p + b))``, with learned W and b: a posterior
    mean of it can hold several places at once, which a mean of positions cannot. The kernel is
    ``k(x, y) = exp((cos(x, y) - 1) / temperature)``, the posterior mean ``K_qs alpha`` with
    ``alpha = (K_ss + noise I)^-1 chi_s``, which depends on the known image alone.

    All is computed in at least float32, with autocast off: in bfloat16 the matrix of correlated features is not
    positive definite any more.

    Args:
        dim: channels of the embedding, D.
        temperature: of the kernel; > 0.
        noise: variance on the diagonal; >= 0. With 0 the posterior mean interpolates.

    Source: Edstedt et al., DKM, CVPR 2023, and RoMa: Robust Dense Feature Matching, CVPR 2024, and its released code
    (MIT), whose defaults these are. Differs: Cholesky in training too, where the released code inverts.
    """

    def __init__(self, dim: int, *, temperature: float = 0.2, noise: float = 0.1) -> None:
        super().__init__()
        self.position = nn.Linear(2, dim)
        self.temperature = temperature
        self.noise = noise

    def embed(self, position_S2: Tensor) -> Tensor:
        """Embed positions, [S, 2] to [S, D]; they should be at most about 1, one unit apart is several periods."""
        with torch.autocast(position_S2.device.type, enabled=False):
            embedded_SD: Tensor = torch.cos(8 * math.pi * self.position(at_least_float32(position_S2)))
        return embedded_SD

    def weights(self, support_NSC: Tensor, position_S2: Tensor) -> Tensor:
        """Solve for alpha, which is all that a posterior mean needs of an image beside its features.

        Args:
            support_NSC: features of N images, [N, S, C], any float dtype; their length does not matter.
            position_S2: where they lie, [S, 2], as :meth:`embed` takes them; the same for all images.

        Returns:
            weight_NSD: [N, S, D], at least float32; NaN for an image with a feature that is not finite.

        Raises:
            ShapeError: a matrix has no Cholesky factor even with the largest of :data:`JITTERS`.
        """
        with torch.autocast(support_NSC.device.type, enabled=False):
            kernel_NSS = self._kernel(support_NSC, support_NSC)
            identity_SS = torch.eye(kernel_NSS.shape[1], dtype=kernel_NSS.dtype, device=kernel_NSS.device)
            matrix_NSS = (kernel_NSS + kernel_NSS.mT) / 2 + self.noise * identity_SS
            finite_N11 = matrix_NSS.isfinite().all(2, keepdim=True).all(1, keepdim=True)
            factor_NSS = _cholesky(torch.where(finite_N11, matrix_NSS, identity_SS), identity_SS)
            target_NSD = self.embed(position_S2).to(factor_NSS.dtype).expand(len(factor_NSS), -1, -1)
            return torch.where(finite_N11, torch.cholesky_solve(target_NSD, factor_NSS), torch.nan)

    def forward(self, query_NTC: Tensor, support_NSC: Tensor, weight_NSD: Tensor) -> Tensor:
        """Posterior mean of the embedded positions of features of other images.

        Args:
            query_NTC: their features, [N, T, C].
            support_NSC: of the images whose positions are known, [N, S, C].
            weight_NSD: of the same images, from :meth:`weights`.

        Returns:
            mean_NTD: [N, T, D], at least float32.
        """
        with torch.autocast(query_NTC.device.type, enabled=False):
            kernel_NTS = self._kernel(query_NTC, support_NSC)
            return kernel_NTS @ weight_NSD.to(kernel_NTS.dtype)

    def _kernel(self, x_NTC: Tensor, y_NSC: Tensor) -> Tensor:
        x_NTC, y_NSC = (functional.normalize(at_least_float32(z), dim=2) for z in (x_NTC, y_NSC))
        kernel_NTS: Tensor = ((x_NTC @ y_NSC.mT - 1) / self.temperature).exp()
        return kernel_NTS


def _cholesky(matrix_NSS: Tensor, identity_SS: Tensor) -> Tensor:
    """Lower factors; only matrices that have none get jitter, so that no image depends on its batch."""
    jitter_N11 = matrix_NSS.new_zeros(len(matrix_NSS), 1, 1)
    factor_NSS: Tensor
    for more in (*JITTERS, None):
        factor_NSS, info_N = torch.linalg.cholesky_ex(matrix_NSS + jitter_N11 * identity_SS)
        failed_N11 = (info_N != 0)[:, None, None]
        if more is None or not bool(failed_N11.any()):
            break
        jitter_N11 = torch.where(failed_N11, more, jitter_N11)
    if bool(failed_N11.any()):
        raise ShapeError(
            f"Gaussian process: wanted positive definite matrices, found {int(failed_N11.sum())} of {len(matrix_NSS)} "
            f"that are not, even with {JITTERS[-1]} on the diagonal. Set a noise above 0."
        )
    return factor_NSS
