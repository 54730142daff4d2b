import math

import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.matchers.embedding import Config, Embedding
from reid.types import FeatureSpec, ImageState

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})
IMAGE = torch.zeros(2, 3, 96, 32)


def maps(seed: int = 0, num: int = 2) -> dict[int, torch.Tensor]:
    return {16: torch.randn(num, 8, 6, 2, generator=torch.Generator().manual_seed(seed))}


def test_state_by_hand():
    matcher = Embedding(Config(), FeatureSpec((16, 16), {16: (2, 1, 2)})).eval()
    with torch.no_grad():
        matcher.bn.weight.copy_(torch.tensor([1.0, 2.0]))
        matcher.bn.running_mean.copy_(torch.tensor([1.0, 0.0]))
        matcher.bn.running_var.fill_(4.0 - 1e-5)
    state = matcher.encode(IMAGE, {16: torch.tensor([[[[6.0, 8.0]], [[3.0, 5.0]]]])})
    # pooled (7, 4); normed ((7 - 1) / 2, 2 * 4 / 2) = (3, 4); unit (0.6, 0.8)
    torch.testing.assert_close(state["pooled"], torch.tensor([[7.0, 4.0]]))
    torch.testing.assert_close(state["normed"], torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(state["embedding"], torch.tensor([[0.6, 0.8]]))
    assert state.fields["embedding"].cached
    assert not state.fields["pooled"].cached
    assert not state.fields["normed"].cached


def test_score_is_the_cosine():
    matcher = Embedding(Config(), SPEC).eval()
    a, b = (ImageState({"embedding": torch.nn.functional.normalize(maps(s, 3)[16].mean((2, 3)))}) for s in (0, 1))
    score = matcher.score(a, b)
    for q in range(3):
        for g in range(3):
            x, y = a["embedding"][q].tolist(), b["embedding"][g].tolist()
            assert score[q, g].item() == pytest.approx(math.fsum(i * j for i, j in zip(x, y, strict=True)), abs=1e-6)


def test_neck_and_pooling_options():
    matcher = Embedding(Config(pooling="gem", neck_dim=5), SPEC)
    assert matcher.info.embedding_dim == 5
    assert matcher.encode(IMAGE, maps())["embedding"].shape == (2, 5)
    assert {name.split(".")[0] for name, _ in matcher.named_parameters()} == {"neck_conv", "pooling", "bn"}
    plain = Embedding(Config(), SPEC)
    assert plain.info.embedding_dim == 8
    assert [name for name, _ in plain.named_parameters()] == ["bn.weight"]  # the BN neck has no shift


def test_wrong_stride_map_state_and_pairs():
    with pytest.raises(ConfigError, match="stride 32"):
        Embedding(Config(stride=32), SPEC)
    matcher = Embedding(Config(), SPEC)
    with pytest.raises(ShapeError, match="embedding: wanted a map"):
        matcher.encode(IMAGE, {16: torch.zeros(2, 7, 6, 2)})
    with pytest.raises(ShapeError, match=r"wanted states with embedding \[N, 8\]"):
        matcher.score(*[ImageState({"embedding": torch.zeros(2, 7)})] * 2)
    with pytest.raises(ShapeError, match="2 query and 3 gallery"):
        matcher.pair(ImageState({"embedding": torch.zeros(2, 8)}), ImageState({"embedding": torch.zeros(3, 8)}))
