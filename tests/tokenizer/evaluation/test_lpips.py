"""LPIPS: by hand on features, against torchmetrics' whole program, and the user's file with all that may be wrong in it."""

import dataclasses
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arm.config import identity
from arm.errors import UserError
from arm.tokenizer.config import EvaluateTokenizerConfig, LpipsConfig
from arm.tokenizer.evaluation.lpips import NETWORKS, Lpips, feature_distance, read_tensors

CPU = torch.device("cpu")


def published(network: str) -> nn.Sequential:
    """`features` as torchvision lays them out, written down once more: with the last pooling, which LPIPS does not use."""
    if network == "alex":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
            nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
    layers: list[nn.Module] = []
    inputs = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
            inputs = channels
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def state_of(features: nn.Module) -> OrderedDict[str, Tensor]:
    """The state dict of the whole classifier, as it is published."""
    whole = nn.ModuleDict({"features": features, "classifier": nn.Linear(2, 2)})
    return OrderedDict(whole.state_dict())


@pytest.fixture(params=["alex", "vgg"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LpipsConfig, nn.Sequential]:
    """Random weights in the published layout, in a file, and the network that they are of."""
    torch.manual_seed(0)
    features = published(request.param)
    torch.save(state_of(features), tmp_path / "weights.pth")
    return LpipsConfig(network=request.param, weights=str(tmp_path / "weights.pth")), features


def pair(side: int = 40, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, side, side + 8, generator=generator)
    return images, (images + 0.2 * torch.rand(images.shape, generator=generator)).clamp(0, 1)


def test_the_distance_of_features_by_hand() -> None:
    first = torch.tensor([[3.0, 4.0], [2.0, 0.0]]).T.reshape(1, 2, 1, 2)  # the vectors (3, 4) and (2, 0) at two places
    second = torch.tensor([[5.0, 0.0], [7.0, 0.0]]).T.reshape(1, 2, 1, 2)
    head = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    assert feature_distance([first], [second], [head]).tolist() == pytest.approx([1.44 / 2])
    whole = feature_distance([first, first[..., :1]], [second, second[..., :1]], [head, head])
    assert whole.tolist() == pytest.approx([0.72 + 1.44])  # a mean over places, a sum over taps
    assert feature_distance([first * 0], [second], [head]).tolist() == pytest.approx([1.0])  # zeros stay zeros


def test_one_filter_that_sees_red_gives_a_distance_worked_out_by_hand(tmp_path: Path) -> None:
    """Channel 0 of the first tap is 1 wherever, channel 1 the scaled red of a pixel; all later features are zeros."""
    state = {name: torch.zeros(shape) for name, shape in NETWORKS["alex"].shapes.items()}
    state["features.0.bias"][0] = 1
    state["features.0.weight"][1, 0, 5, 5] = 1  # the middle of the window, never in the padding
    save_file(state, tmp_path / "red.safetensors")
    lpips = Lpips(LpipsConfig(weights=str(tmp_path / "red.safetensors")), CPU)
    red = torch.zeros(1, 3, 31, 31)
    red[:, 0] = 1
    of_red = (1 + 0.030) / 0.458  # black is (-1 + .030) / .458, which the ReLU makes 0
    length = (1 + of_red**2) ** 0.5
    first, second = lpips.heads[0].flatten()[:2].tolist()
    expected = first * (1 - 1 / length) ** 2 + second * (of_red / length) ** 2
    assert lpips(red, torch.zeros(1, 3, 31, 31)).tolist() == pytest.approx([expected], rel=1e-5)
    assert expected > 0


def test_every_number_is_that_of_torchmetrics(
    given: tuple[LpipsConfig, nn.Sequential], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its program with its heads, handed the same backbone in place of torchvision's."""
    from torchmetrics.functional.image import lpips as theirs

    config, features = given
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda net, pretrained=False: features)
    images, reference = pair()
    with torch.no_grad():
        expected = theirs.learned_perceptual_image_patch_similarity(
            images, reference, net_type=config.network, reduction="none", normalize=True
        )
    found = Lpips(config, CPU)(images, reference)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert float(found.min()) > 1e-5


def test_equal_images_are_at_no_distance_and_a_pair_does_not_depend_on_its_batch(
    given: tuple[LpipsConfig, nn.Sequential],
) -> None:
    lpips = Lpips(given[0], CPU)
    images, reference = pair()
    assert lpips(images, images).tolist() == [0.0, 0.0]
    assert lpips(images[1:], reference[1:]).tolist() == lpips(images, reference).tolist()[1:]


def test_the_smallest_side_is_the_networks_own(given: tuple[LpipsConfig, nn.Sequential]) -> None:
    lpips = Lpips(given[0], CPU)
    images, reference = torch.zeros(1, 3, lpips.smallest, 40), torch.ones(1, 3, lpips.smallest, 40)
    assert lpips(images, reference).isfinite().all()
    with pytest.raises(RuntimeError, match="too small"):
        lpips(images[..., 1:, :], reference[..., 1:, :])


def test_the_same_tensors_as_safetensors_are_the_same_weights(given: tuple[LpipsConfig, nn.Sequential]) -> None:
    config = given[0]
    path = Path(config.weights).with_suffix(".safetensors")
    save_file(dict(state_of(given[1])), path)
    images, reference = pair(count=1)
    again = Lpips(dataclasses.replace(config, weights=str(path)), CPU)
    assert again(images, reference).tolist() == Lpips(config, CPU)(images, reference).tolist()


class Trap:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


SHAPES = {"features.0.weight": (2, 3), "features.0.bias": (2,)}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([torch.zeros(2, 3)], "holds a list, not a state dict"),
        ({"weight": torch.zeros(2, 3)}, "no tensor 'features.0.weight' of AlexNet; it holds 1 names: weight"),
        ({}, "it holds 0 names: nothing"),
        ({"features.0.weight": torch.zeros(3, 2), "features.0.bias": torch.zeros(2)}, r"float32 \(3, 2\); .* \(2, 3\)"),
        ({"features.0.weight": torch.zeros(2, 3).int(), "features.0.bias": torch.zeros(2)}, r"torch.int32 \(2, 3\)"),
        ({"features.0.weight": "none", "features.0.bias": torch.zeros(2)}, "features.0.weight as str"),
        ({"features.0.weight": torch.full((2, 3), torch.nan), "features.0.bias": torch.zeros(2)}, "not finite"),
        ({"features.0.weight": Trap()}, "no PyTorch file of tensors alone"),
    ],
)
def test_a_file_of_anything_else_is_refused_with_what_was_seen(
    content: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=problem) as caught:
        read_tensors(str(tmp_path / "weights.pth"), SHAPES, "AlexNet")
    assert str(caught.value).count("\n") == 0
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("data", [b"", b"no weights at all", b"PK\x03\x04 cut off", bytes(range(256)) * 9])
def test_damaged_bytes_are_refused(data: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(data)
    with pytest.raises(UserError, match=re.escape(f"weights{suffix}")):
        read_tensors(str(tmp_path / f"weights{suffix}"), SHAPES, "AlexNet")


def test_another_network_a_missing_file_and_a_folder_of_two_are_refused(tmp_path: Path) -> None:
    torch.save(state_of(published("vgg")[:2]), tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=r"no tensor 'features\.3\.weight' of AlexNet"):
        Lpips(LpipsConfig(weights=str(tmp_path / "vgg.pth")), CPU)
    with pytest.raises(UserError, match="no file"):
        Lpips(LpipsConfig(weights=str(tmp_path / "none.pth")), CPU)
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="holds 2 files"):
        Lpips(LpipsConfig(weights=str(tmp_path)), CPU)
    with pytest.raises(UserError, match="weights is empty"):
        LpipsConfig()


def test_runs_without_lpips_keep_their_content_key_and_its_weights_are_part_of_the_others() -> None:
    assert "lpips" not in identity(EvaluateTokenizerConfig())
    config = EvaluateTokenizerConfig(lpips=LpipsConfig(weights="alex.pth"))
    assert identity(config)["lpips"] == {"network": "alex", "weights": "alex.pth"}
    assert config.outside_paths() == ("alex.pth",)
