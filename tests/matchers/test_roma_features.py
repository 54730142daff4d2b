import torch
from torch.nn import functional

from reid.matchers._roma_features import FineFeatures


def by_hand(
    image: torch.Tensor, weights: dict[str, torch.Tensor], num_convs: tuple[int, ...]
) -> dict[int, torch.Tensor]:
    maps, x = {}, image * 2 - 1

    def convolved(x: torch.Tensor, conv: str, norm: str, padding: int) -> torch.Tensor:
        x = functional.conv2d(x, weights[f"{conv}.weight"], weights[f"{conv}.bias"], padding=padding)
        mean, var, scale, shift = (weights[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, scale, shift)

    for n, stride in enumerate((1, 2, 4, 8)):
        if n:
            x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
        for c in range(num_convs[n]):
            x = convolved(x, f"levels.{stride}.{3 * c}", f"levels.{stride}.{3 * c + 1}", 1).clamp(min=0)
        if f"project.{stride}.0.weight" in weights:
            maps[stride] = convolved(x, f"project.{stride}.0", f"project.{stride}.1", 0)
    return maps


@torch.no_grad()
def test_maps_by_hand():
    torch.manual_seed(0)
    features = FineFeatures((3, 4, 5, 6), (1, 2, 1, 2), {8: 2, 4: 3, 1: 4}).double()
    image = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    features(image)  # moves the batch norms' statistics
    found = features.eval()(image)
    wanted = by_hand(image, features.state_dict(), [1, 2, 1, 2])
    assert list(found) == [8, 4, 1]
    for stride, dim in ((8, 2), (4, 3), (1, 4)):
        assert found[stride].shape == (2, dim, 16 // stride, 24 // stride)
        torch.testing.assert_close(found[stride], wanted[stride])


def test_levels_below_the_coarsest_that_is_wanted_are_not_built():
    features = FineFeatures((3, 4, 5, 6), (1, 1, 1, 1), {2: 7})
    assert list(features.levels) == ["1", "2"]
    assert features(torch.rand(2, 3, 8, 4))[2].shape == (2, 7, 4, 2)
