import numpy as np
import torch

from reid.nn.map_norm import MapNorm


def test_entries_are_centred_and_scaled_over_images():
    maps = torch.randn(5, 2, 3, 4, dtype=torch.float64) * 3 + torch.arange(4)
    norm = MapNorm((2, 3, 4)).double()
    x = maps.numpy()
    wanted = (x - x.mean(0)) / np.sqrt(x.var(0) + norm.eps)
    np.testing.assert_allclose(norm(maps).numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_in_eval_mode_an_image_does_not_depend_on_others():
    norm = MapNorm((2, 3, 4))
    for seed in range(200):
        norm(torch.randn(16, 2, 3, 4, generator=torch.Generator().manual_seed(seed)) * 2 + 7)
    norm.eval()
    maps = torch.randn(500, 2, 3, 4) * 2 + 7
    torch.testing.assert_close(norm(maps)[3:4], norm(maps[3:4]))
    assert abs(norm(maps).mean()) < 0.1
    assert abs(norm(maps).std() - 1) < 0.1
    assert not list(norm.parameters())


def test_half_precision_is_widened():
    norm = MapNorm((1, 2, 2)).eval()
    assert norm(torch.ones(3, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32
