"""The two-dimensional denoiser: its shapes, and that its inputs reach the output."""

import pytest
import torch

from asteroid_ucr import UCRSeparator
from asteroid_ucr.networks import UNet2d
from asteroid_ucr.utils.errors import UserError


@pytest.fixture
def unet():
    torch.manual_seed(0)
    unet = UNet2d(channels=16, latent_dim=2, widths=(8, 16)).eval()
    torch.nn.init.normal_(unet.out.weight)  # it starts at zero, which hides everything
    return unet


def test_size():
    assert sum(p.numel() for p in UNet2d().parameters()) == pytest.approx(2.30e6, rel=0.01)


@pytest.mark.parametrize("frames", [1, 3, 64, 77])
def test_it_takes_any_number_of_frames(unet, frames):
    x, z = torch.randn(2, 16, frames), torch.randn(2, 3, 2, frames)
    assert unet(x, torch.rand(2), z).shape == (2, 3, 16, frames)


def test_bands_must_be_halved():
    with pytest.raises(ValueError, match="20 channels"):
        UNet2d(20, 1, (8, 8, 8))


def test_a_shared_blend_equals_one_for_each_component(unet):
    x, z, alpha = torch.randn(2, 16, 32), torch.randn(2, 3, 2, 32), torch.rand(2)
    each = x[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(unet(x, alpha, z), unet(each, alpha, z), rtol=1e-4, atol=1e-4)


def test_components_are_told_apart_by_their_latents_alone(unet):
    x, z, alpha = torch.randn(2, 16, 32), torch.randn(2, 3, 2, 32), torch.rand(2)
    output, order = unet(x, alpha, z), [2, 0, 1]
    torch.testing.assert_close(unet(x, alpha, z[:, order]), output[:, order], rtol=1e-4, atol=1e-4)
    assert (output[:, 0] - output[:, 1]).abs().max() > 0.01


def test_every_input_reaches_the_output(unet):
    torch.manual_seed(1)
    inputs = [torch.randn(1, 16, 32), torch.tensor([0.5]), torch.randn(1, 3, 2, 32)]
    for tensor in inputs:
        tensor.requires_grad_()
    unet(*inputs).square().sum().backward()
    assert all(tensor.grad.abs().max() > 1e-4 for tensor in inputs)


def test_noise_alone_leaves_nothing_of_itself():
    # Untrained, the mixture passes through near α = 1, at a gate of one half; noise does not.
    unet, z = UNet2d(16, 2, (8, 16)), torch.randn(1, 3, 2, 32)
    unet.set_silence(torch.full((16, 1), -2.0))
    x = torch.randn(1, 16, 32)
    gate = 0.5**0.15
    expected = -2 + gate * (x + 2)
    torch.testing.assert_close(unet(x, torch.ones(1), z)[:, 0], expected)
    torch.testing.assert_close(
        unet(x, torch.zeros(1), z), torch.full((1, 3, 16, 32), -2 + gate * 2.0)
    )


def test_it_can_be_exported(unet):
    inputs = (torch.randn(2, 16, 32), torch.rand(2), torch.randn(2, 3, 2, 32))
    exported = torch.export.export(unet, inputs).module()
    torch.testing.assert_close(exported(*inputs), unet(*inputs))


def test_a_separator_uses_it_and_keeps_it(tmp_path):
    model = UCRSeparator(
        ["drums", "bass", "piano"], latent_dim=2, encoder_widths=[8], denoiser="unet2d",
        denoiser_widths=[8, 8], composition="power_sum", alpha_start=0.95,
    ).eval()  # fmt: skip
    model.decomposition.set_statistics(torch.full((128,), 0.8), torch.full((128,), 0.4))
    torch.testing.assert_close(model.decomposition.denoiser.silence, torch.full((128, 1), -2.0))
    torch.save(model.serialize(), tmp_path / "model.pth")
    loaded = UCRSeparator.from_pretrained(str(tmp_path / "model.pth")).eval()
    wav = 0.1 * torch.randn(1, 1, 9000)
    with torch.no_grad():
        torch.testing.assert_close(loaded(wav), model(wav))
        assert model.select(["piano", "drums"])(wav).shape == (1, 2, 9000)


def test_unknown_denoisers_are_refused():
    with pytest.raises(UserError, match="unet3d"):
        UCRSeparator(denoiser="unet3d")
