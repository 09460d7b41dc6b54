"""LPIPS: how far apart two images look to a network that was trained on photographs (arXiv 1801.03924, version 0.1).

The network's weights are the user's file, as torchvision publishes it: `alexnet-owt-7be5be79.pth`, `vgg16-397923af.pth`, or the
same tensors as safetensors. The five linear heads that people's judgements taught come with torchmetrics.

    features.0.weight (64, 3, 11, 11)  features.0.bias (64,)  features.3.weight (192, 64, 5, 5)  …      classifier.* is not read
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as files_of_package
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from arm.errors import UserError
from arm.outside import outside_files
from arm.tokenizer.config import LpipsConfig

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of channels in [-1, 1]: the scaling layer of version 0.1."""
EPSILON = 1e-10
"""Added to the length of a feature vector before the division."""
SHOWN = 3
"""Names of a file that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution with its ReLU; `pool` is the side of the max pooling before it (stride 2), 0 for none."""

    index: int
    """Its place in torchvision's `features`."""
    inputs: int
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    tap: bool = True
    """Whether its output is compared."""


@dataclass(frozen=True, slots=True)
class Network:
    """A backbone without its classifier."""

    title: str
    smallest: int
    """Pixels a side that leave one position behind the last pooling."""
    convolutions: tuple[Convolution, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the tensors of its file."""
        found: dict[str, tuple[int, ...]] = {}
        for each in self.convolutions:
            found[f"features.{each.index}.weight"] = (each.channels, each.inputs, each.kernel, each.kernel)
            found[f"features.{each.index}.bias"] = (each.channels,)
        return found

    @property
    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the linear heads, in the order of the taps."""
        tapped = [each.channels for each in self.convolutions if each.tap]
        return {f"lin{number}.model.1.weight": (1, channels, 1, 1) for number, channels in enumerate(tapped)}


def _vgg16() -> Iterator[Convolution]:
    """Thirteen convolutions of 3x3 in five blocks (arXiv 1409.1556, column D); the last of each block is compared."""
    index, inputs = 0, 3
    for block, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for place in range(count):
            pool = 2 if block and not place else 0
            yield Convolution(index=index, inputs=inputs, channels=channels, pool=pool, tap=place == count - 1)
            index, inputs = index + 2, channels
        index += 1


NETWORKS = {
    "alex": Network(
        "AlexNet", 31,
        (
            Convolution(index=0, inputs=3, channels=64, kernel=11, stride=4, padding=2),
            Convolution(index=3, inputs=64, channels=192, kernel=5, padding=2, pool=3),
            Convolution(index=6, inputs=192, channels=384, pool=3),
            Convolution(index=8, inputs=384, channels=256),
            Convolution(index=10, inputs=256, channels=256),
        ),
    ),
    "vgg": Network("VGG16", 16, tuple(_vgg16())),
}  # fmt: skip
"""The backbones by the names of the paper's code; AlexNet is torchvision's, of one tower (arXiv 1404.5997)."""


class Lpips:
    """The distance of images to their references, with the user's weights: (B, 3, H, W) in [0, 1] twice, to (B,) float64."""

    def __init__(self, config: LpipsConfig, device: torch.device) -> None:
        self.network = NETWORKS[config.network]
        heads = Path(str(files_of_package("torchmetrics") / f"functional/image/lpips_models/{config.network}.pth"))
        self.weights = _moved(read_tensors(config.weights, self.network.shapes, self.network.title), device)
        self.heads = list(
            _moved(read_tensors(str(heads), self.network.head_shapes, f"LPIPS {config.network}"), device).values()
        )
        self.shift, self.scale = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (SHIFT, SCALE))

    @property
    def smallest(self) -> int:
        """Pixels that a side needs."""
        return self.network.smallest

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """One pair at a time: VGG16's first features of 512² pixels are 67 MB, and no number depends on its batch."""
        pairs = zip(images_BCHW, reference_BCHW, strict=True)
        distances = [
            feature_distance(self._taps(image[None]), self._taps(other[None]), self.heads) for image, other in pairs
        ]
        return torch.cat(distances).double()

    def _taps(self, images_BCHW: Tensor) -> list[Tensor]:
        """The compared features, (B, C, H, W) each, of images in [0, 1]."""
        features = (images_BCHW.to(self.shift) * 2 - 1 - self.shift) / self.scale
        taps = []
        for each in self.network.convolutions:
            if each.pool:
                features = F.max_pool2d(features, each.pool, stride=2)
            weight, bias = (self.weights[f"features.{each.index}.{kind}"] for kind in ("weight", "bias"))
            features = F.conv2d(features, weight, bias, stride=each.stride, padding=each.padding).relu()
            if each.tap:
                taps.append(features)
        return taps


def feature_distance(first: Sequence[Tensor], second: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """Weighted squared distance of unit feature vectors, averaged over positions and summed over taps: (B,).

    one tap of one position, (3, 4) and (5, 0), head (1, 2)  ->  (.6 - 1)² + 2 (.8 - 0)² = 1.44
    """
    total = torch.zeros(len(first[0]), device=first[0].device)
    for one_BCHW, other_BCHW, head_1C11 in zip(first, second, heads, strict=True):
        difference_BCHW = (_unit(one_BCHW) - _unit(other_BCHW)).square()
        total = total + (difference_BCHW * head_1C11).sum(dim=1).mean(dim=(1, 2))
    return total


def _unit(features_BCHW: Tensor) -> Tensor:
    """Vectors over channels, of length 1; zeros stay."""
    return features_BCHW / (features_BCHW.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)


def read_tensors(path: str, shapes: Mapping[str, tuple[int, ...]], title: str) -> dict[str, Tensor]:
    """The tensors of these names and shapes in a .safetensors or PyTorch file, as float32; what else it holds is left."""
    found = outside_files(path)
    if len(found) != 1:
        raise UserError(f"{path} holds {len(found)} files; give the one file of {title}'s weights.")
    (file,) = found.values()
    tensors = _load(file, path)
    if missing := [name for name in shapes if name not in tensors]:
        held = ", ".join(list(map(str, tensors))[:SHOWN]) or "nothing"
        raise UserError(f"{path} has no tensor {missing[0]!r} of {title}; it holds {len(tensors)} names: {held} …")
    for name, shape in shapes.items():
        value = tensors[name]
        if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) != shape:
            seen = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"{path} holds {name} as {seen}; {title} has floats of the shape {shape}.")
        if not bool(value.isfinite().all()):
            raise UserError(f"{path} holds numbers in {name} that are not finite; fetch {title}'s weights anew.")
    return {name: tensors[name].float() for name in shapes}


def _load(file: Path, path: str) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as weights ({error}).") from None
    except Exception as error:  # an unpickler raises anything, and torch's message says how to run the file's code
        raise UserError(
            f"{path} is no PyTorch file of tensors alone ({type(error).__name__}); give a state dict or safetensors."
        ) from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not a state dict; give names with tensors.")
    return loaded


def _moved(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}
