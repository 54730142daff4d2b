import numpy as np
import torch

from reid.nn.map_norm import MapNorm, MapNorms


def test_entries_are_centred_and_scaled_by_one_number():
    maps = torch.randn(5, 2, 3, 4, dtype=torch.float64) * 3 + torch.arange(4)
    norm = MapNorm((2, 3, 4)).double()
    x = maps.numpy()
    wanted = (x - x.mean(0)) / np.sqrt(x.var(0).mean() + 1e-5)
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


def test_maps_that_are_read_have_a_norm_each():
    norms = MapNorms({16: (1, 2, 1), 8: (2, 4, 2)})
    maps = {stride: torch.randn(6, *shape) + 5 for stride, shape in ((8, (2, 4, 2)), (16, (1, 2, 1)), (4, (3, 8, 4)))}
    found = norms(maps)
    assert found.keys() == {8, 16}
    for map_ in found.values():
        torch.testing.assert_close(map_.mean(0), torch.zeros(map_.shape[1:]), rtol=0, atol=1e-5)
    assert set(norms.state_dict()) >= {"16.mean_CHW", "8.variance"}
