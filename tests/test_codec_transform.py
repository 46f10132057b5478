"""A codec that starts as a cosine transform, and keeps it."""

import pytest
import scipy.fft
import torch
from test_codec_training import arguments, parse

from asteroid_ucr import UserError
from asteroid_ucr.codecs.encodec import Architecture, build_network
from asteroid_ucr.training.codec import CodecTrainer
from asteroid_ucr.training.codec_data import CodecStore, build_store
from asteroid_ucr.training.codec_init import initialise
from asteroid_ucr.training.codec_transform import freeze_transform, start_as_transform

KEPT = 100
WAV = 0.3 * torch.randn(2, 1, 3200, generator=torch.Generator().manual_seed(0))


def coefficients(wav):
    frames = wav[:, 0].unflatten(1, (-1, 320)).numpy()
    return torch.from_numpy(scipy.fft.dct(frames, norm="ortho"))[..., :KEPT]


def started(**architecture):
    torch.manual_seed(0)
    model = build_network(
        Architecture(**{"n_filters": 8, "lstm": 0, "true_skip": True, **architecture})
    )
    initialise(model, WAV)
    start_as_transform(model, KEPT)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("residual_layers", [1, 2])
def test_it_starts_as_the_transform_and_its_inverse(residual_layers):
    model = started(n_residual_layers=residual_layers)
    latents, expected = model.encoder(WAV), coefficients(WAV)
    assert torch.allclose(latents[:, :KEPT].mT, expected, atol=1e-4)
    assert latents[:, KEPT:].std() > 0.05  # the others are not idle
    inverse = scipy.fft.idct(expected.numpy(), n=320, norm="ortho")
    decoded = model.decoder(latents)
    assert (decoded[:, 0] - torch.from_numpy(inverse).flatten(1)).std() < 0.01 * WAV.std()


def test_training_keeps_the_transform_and_moves_the_rest():
    model = started()
    freeze_transform(model, KEPT)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    last = model.decoder.model[-1].conv.conv
    bias = last.bias.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        (model.decoder(model.encoder(WAV)) - WAV).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        latents = model.encoder(WAV)
        assert torch.allclose(latents[:, :KEPT].mT, coefficients(WAV), atol=1e-4)
        # Without what the learnt channels add in the last convolution, the inverse is as before.
        last.weight_v[:, 1:] = 0.0
        last.weight_g.fill_(1.0)
        last.bias.copy_(bias)
        inverse = scipy.fft.idct(coefficients(WAV).numpy(), n=320, norm="ortho")
        expected = torch.from_numpy(inverse).flatten(1)
        assert torch.allclose(model.decoder(latents)[:, 0], expected, atol=1e-3)
    moved = [n for n, v in model.named_parameters() if not torch.equal(v, before[n])]
    assert len(moved) > 0.9 * len([n for n, _ in model.named_parameters()])


def test_recipe_keeps_it_from_the_first_step_on(slakh_tree, tmp_path):
    config = parse(arguments(slakh_tree, tmp_path, network__n_filters=8, training__transform=KEPT))
    store = CodecStore(build_store(config.data, "train"), config.data)
    trainer = CodecTrainer(config)
    trainer.start(store)
    for _ in range(3):
        trainer.step(store)
    resumed = CodecTrainer(config)
    resumed.load_state_dict(trainer.state_dict())
    resumed.step(store)
    with torch.no_grad():
        latents = resumed.model.encoder(WAV)
    assert torch.allclose(latents[:, :KEPT].mT, coefficients(WAV), atol=1e-4)


@pytest.mark.parametrize(
    "architecture", [{"n_filters": 4}, {"lstm": 1}, {"true_skip": False}], ids=str
)
def test_networks_without_room_are_refused(architecture):
    with pytest.raises(UserError, match=r"training\.transform 100 does not fit"):
        started(**architecture)
