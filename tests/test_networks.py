"""Networks: shapes, sizes, and that their conditions reach the output."""

import pytest
import torch
import torch.nn.functional as F

from asteroid_ucr.networks import ComponentUNet1d, SemanticEncoder, UNet1d
from asteroid_ucr.networks.blocks import SelfAttention, TimeEmbedding


def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


def small_unet(**options):
    torch.manual_seed(0)
    return UNet1d(8, 1, (16, 32), (5, 3), embedding_dim=16, heads=4, **options).eval()


def test_reference_sizes():
    # Bindi & Esling 2024: 10.5 M for the denoiser, 5.8 M for two encoders.
    assert millions(UNet1d()) == pytest.approx(10.5, abs=0.05)
    assert millions(SemanticEncoder(n_src=2)) == pytest.approx(5.8, abs=0.05)


@pytest.mark.parametrize("frames", [1, 3, 64, 77, 525])
def test_unet_takes_any_number_of_frames(frames):
    unet = small_unet()
    x, condition = torch.randn(2, 8, frames), torch.randn(2, 1, frames)
    assert unet(x, torch.rand(2), condition).shape == (2, 8, frames)


def test_alpha_reaches_the_output():
    unet = small_unet()
    x, condition = torch.randn(1, 8, 32), torch.randn(1, 1, 32)
    low, high = (unet(x, torch.tensor([a]), condition) for a in (0.1, 0.11))
    assert (low - high).abs().max() > 1e-5
    gradient = torch.autograd.grad(
        unet(x, alpha := torch.tensor([0.5], requires_grad=True), condition).square().sum(), alpha
    )[0]
    assert gradient.abs() > 1e-4


def test_without_embedding_alpha_changes_nothing():
    unet = UNet1d(8, 1, (16, 32), (5, 3), embedding_dim=None, heads=4).eval()
    x, condition = torch.randn(1, 8, 32), torch.randn(1, 1, 32)
    low, high = (unet(x, torch.tensor([a]), condition) for a in (0.1, 0.9))
    assert torch.equal(low, high)


def test_condition_acts_where_it_changes():
    torch.manual_seed(1)
    x, condition = torch.randn(1, 8, 256), torch.randn(1, 1, 256, requires_grad=True)
    output = small_unet()(x, torch.zeros(1), condition)
    gradient = torch.autograd.grad(output[..., 128].square().sum(), condition)[0].abs()
    # Attention and group normalisation reach everywhere, but the frame's own surroundings count.
    assert gradient[..., 112:144].mean() > 5 * gradient[..., :96].mean()


def test_time_embedding_tells_close_times_apart():
    embed = TimeEmbedding(64)
    alphas = torch.linspace(0, 1, 1001)
    features = torch.cat(
        [f(alphas[:, None] * embed.frequencies) for f in (torch.sin, torch.cos)], 1
    )
    neighbours = (features[1:] - features[:-1]).norm(dim=1)
    assert neighbours.min() > 0.5
    assert torch.pdist(features).min() > 0.1


def test_attention_equals_torch():
    torch.manual_seed(0)
    ours = SelfAttention(16, heads=4).eval()
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    # Ours interleaves nothing: rows are q, k, v, each split into heads.
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight[..., 0],
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight[..., 0],
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(2, 16, 10)
    normed = F.group_norm(x, 8, ours.norm.weight, ours.norm.bias).transpose(1, 2)
    expected = theirs(normed, normed, normed, need_weights=False)[0].transpose(1, 2)
    assert torch.allclose(ours(x) - x, expected, atol=1e-6)


@pytest.mark.parametrize(("n_src", "dim"), [(1, 1), (2, 1), (3, 4)])
def test_encoder_shapes(n_src, dim):
    encoder = SemanticEncoder(8, n_src, dim, (16,))
    assert encoder(torch.randn(2, 8, 33)).shape == (2, n_src, dim, 33)


def test_separate_encoders_share_nothing():
    encoder = SemanticEncoder(8, 2, 1, (16,))
    encoder(torch.randn(1, 8, 20))[:, 0].sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in encoder.towers[1].parameters())


def test_components_share_what_is_common():
    torch.manual_seed(0)
    unet = ComponentUNet1d(8, 1, (16, 32), (5, 3), embedding_dim=16, heads=4).eval()
    x, alpha, z = torch.randn(2, 8, 21), torch.rand(2), torch.randn(2, 3, 1, 21)
    together = unet(x, alpha, z)
    assert together.shape == (2, 3, 8, 21)
    assert torch.equal(together, unet(x[:, None].expand(-1, 3, -1, -1), alpha, z))
    assert torch.allclose(together[:, 1:2], unet(x, alpha, z[:, 1:2]), atol=1e-5)


def test_regression_vectors():
    """Weights of this seed have given these numbers since version 0.1."""
    unet = small_unet()
    torch.manual_seed(1)
    y = unet(torch.randn(1, 8, 21), torch.tensor([0.3]), torch.randn(1, 1, 21))
    assert torch.allclose(y[0, :3, 10], torch.tensor(UNET_VECTOR), atol=1e-4)
    torch.manual_seed(0)
    z = SemanticEncoder(8, 2, 1, (16,))(torch.linspace(-1, 1, 8 * 21).reshape(1, 8, 21))
    assert torch.allclose(z[0, :, 0, 10], torch.tensor(ENCODER_VECTOR), atol=1e-4)


UNET_VECTOR = [-0.02706, 0.22212, -0.13113]
ENCODER_VECTOR = [-0.06205, -0.26904]
