"""SqueezeTime in Flax linen, written from the paper: the worked example of a port with one mistake.

`resize` selects how the positional embedding is resized to its feature map:
- align_corners        correctly;
- scale_and_translate  through jax.image.scale_and_translate, a natural way to write it in JAX. Its scale
  (out - 1) / (in - 1) is 0 if the map is 1 pixel high or wide, and the embedding is then silently lost.

`harness diff --candidate npz:dump.npz` names the first block in which that happens. The dump is made by

    python scripts/dump_activations.py flax --model scripts/examples/flax_port.py:make_model \\
        --kwargs '{"depth": 18, "width": 0.125, "classes": 7}' --size 57x65 --out dump.npz

Layouts are those of Flax: NHWC activations, HWIO kernels. Module names are those of PyTorch, except inside param_conv
and glo_conv: PyTorch numbers their modules, which are called conv1, norm1, conv2 (, norm2, conv3) here.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import formula  # noqa: E402  (it lies one folder up)

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BLOCKS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
BASIC_DEPTHS = (10, 18, 34)
STAGE_CHANNELS = (64, 128, 256, 512)
MIDDLE = 16  # channels between the convolutions of the IOI, for any number of frames
BASIC_FIRST_POS_DIM = 7  # embedding of the first CTL of a BasicBlock, in every stage


def align_corners(image, height, width):
    """Bilinear resize with aligned corners, as two small matrix products."""
    rows, columns = axis_weights(image.shape[0], height), axis_weights(image.shape[1], width)
    return jnp.einsum("oi,pj,ijc->opc", rows, columns, image)


def axis_weights(size, wanted):
    """Weights [wanted, size] of the inputs in each output along one axis; a single output takes the first input."""
    step = (size - 1) / (wanted - 1) if wanted > 1 else 0.0
    position = np.arange(wanted) * step
    low = np.minimum(np.floor(position).astype(int), size - 1)
    weights = np.zeros((wanted, size))
    np.add.at(weights, (np.arange(wanted), low), 1 - (position - low))
    np.add.at(weights, (np.arange(wanted), np.minimum(low + 1, size - 1)), position - low)
    return weights.astype(np.float32)


def scale_and_translate(image, height, width):
    """Emulates aligned corners; the translation aligns the centres of the first pixels."""
    rows, columns = image.shape[:2]
    scale = jnp.array([(height - 1) / (rows - 1), (width - 1) / (columns - 1)])
    shape = (height, width, image.shape[2])
    return jax.image.scale_and_translate(
        image, shape, (0, 1), scale, (1 - scale) / 2, method="bilinear", antialias=False
    )


RESIZES = {"align_corners": align_corners, "scale_and_translate": scale_and_translate}


def conv(features, kernel, name, stride=1, bias=True, groups=1, pad=None):
    pad = kernel // 2 if pad is None else pad
    return nn.Conv(
        features, (kernel, kernel), stride, ((pad, pad), (pad, pad)),
        use_bias=bias, feature_group_count=groups, name=name,
    )  # fmt: skip


def norm(name):
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)


class ParamConv(nn.Module):
    """The gate of a CTL: one factor for each channel."""

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        gate = conv(channels, 1, "conv1", bias=False)(x.mean((1, 2), keepdims=True))
        return nn.sigmoid(conv(channels, 1, "conv2", bias=False)(nn.relu(norm("norm1")(gate))))


class GloConv(nn.Module):
    """The wide path of an IOI, with the positional embedding. Its output scales the 3x3 convolution."""

    features: int
    pos_dim: int
    resize: str

    @nn.compact
    def __call__(self, x):
        x = nn.relu(norm("norm1")(conv(MIDDLE, 3, "conv1")(x)))
        positions = self.param("pos_embed", nn.initializers.zeros, (self.pos_dim, self.pos_dim, MIDDLE))
        if positions.shape[:2] != x.shape[1:3]:
            positions = RESIZES[self.resize](positions, *x.shape[1:3])
        x = nn.relu(norm("norm2")(conv(MIDDLE, 7, "conv2")(x + positions)))
        return nn.sigmoid(conv(self.features, 3, "conv3")(x))


class InterObjectInteraction(nn.Module):
    features: int
    pos_dim: int
    resize: str

    @nn.compact
    def __call__(self, x, gated):
        glo = GloConv(self.features, self.pos_dim, self.resize, name="glo_conv")(gated)
        return conv(self.features, 3, "short_conv")(x) * glo


class ChannelTimeLearning(nn.Module):
    features: int
    pos_dim: int
    resize: str

    @nn.compact
    def __call__(self, x):
        gated = ParamConv(name="param_conv")(x) * x
        temporal = conv(self.features, 1, "temporal_conv", bias=False)(gated)
        spatial = InterObjectInteraction(self.features, self.pos_dim, self.resize, name="spatial_conv")
        return temporal + spatial(x, gated)


class Block(nn.Module):
    """BasicBlock or, with `bottleneck`, Bottleneck."""

    channels: int
    stride: int
    pos_dim: int
    resize: str
    bottleneck: bool

    @nn.compact
    def __call__(self, x):
        features = self.channels * (4 if self.bottleneck else 1)
        if self.stride == 2:
            halve = conv(x.shape[-1], 2, "downsample.0", stride=2, groups=x.shape[-1], pad=0)
            x = norm("downsample.1")(halve(x))
        shortcut = x
        if x.shape[-1] != features:
            shortcut = norm("shortcut_conv.1")(conv(features, 1, "shortcut_conv.0", bias=False)(x))
        residual = self.deep(x, features) if self.bottleneck else self.basic(x)
        return nn.relu(residual + shortcut)

    def ctl(self, name, pos_dim):
        return ChannelTimeLearning(self.channels, pos_dim, self.resize, name=name)

    def basic(self, x):
        x = nn.relu(norm("bn1")(self.ctl("conv1", BASIC_FIRST_POS_DIM)(x)))
        return norm("bn2")(self.ctl("conv2", self.pos_dim)(x))

    def deep(self, x, features):
        x = nn.relu(norm("bn1")(conv(self.channels, 1, "conv1", bias=False)(x)))
        x = nn.relu(norm("bn2")(self.ctl("conv2", self.pos_dim)(x)))
        return norm("bn3")(conv(features, 1, "conv3", bias=False)(x))


class SqueezeTime(nn.Module):
    depth: int = 50
    width: float = 1.0
    frames: int = 16
    classes: int = 400
    pos_dim: tuple = (56, 28, 14, 7)
    resize: str = "align_corners"

    @nn.compact
    def __call__(self, clip):
        """A clip [N, 3, T, H, W] to logits. The frames of each colour become channels, in the last dimension."""
        n, _, _, height, width = clip.shape
        x = clip.reshape(n, 3 * self.frames, height, width).transpose(0, 2, 3, 1)
        stages = [int(channels * self.width) for channels in STAGE_CHANNELS]
        x = nn.relu(norm("bn1")(conv(stages[0], 5, "conv1", stride=2, bias=False)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, channels in enumerate(stages):
            for position in range(BLOCKS[self.depth][stage]):
                x = Block(
                    channels, 2 if stage > 0 and position == 0 else 1, self.pos_dim[stage], self.resize,
                    self.depth not in BASIC_DEPTHS, name=f"layer{stage + 1}.{position}",
                )(x)  # fmt: skip
        return nn.Dense(self.classes, name="fc")(x.mean(1).mean(1))


# PyTorch's names for linen's variables, and for the modules inside the two numbered sequences.
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
NUMBERED = {
    "param_conv": {"conv1": "1", "norm1": "2", "conv2": "4"},
    "glo_conv": {"conv1": "0", "norm1": "1", "conv2": "3", "norm2": "4", "conv3": "6"},
}


def official_name(path):
    """('layer1.0', 'conv2', 'param_conv', 'conv1', 'kernel') -> 'layer1.0.conv2.param_conv.1.weight'."""
    parts = list(path)
    if parts[-1] == "pos_embed":
        return ".".join(parts[:-2] + ["pos_embed"])  # PyTorch keeps it in spatial_conv, one level up
    for index in range(1, len(path)):
        parts[index] = NUMBERED.get(path[index - 1], {}).get(path[index], path[index])
    parts[-1] = LEAVES.get(parts[-1], parts[-1])
    return ".".join(parts)


def leaf(path, shape, read):
    """A variable in Flax's layout, from `read`, which gets PyTorch's name and shape of it."""
    name = official_name(path)
    if path[-1] == "kernel" and len(shape) == 4:
        height, width, inputs, outputs = shape
        return read(name, (outputs, inputs, height, width)).transpose(2, 3, 1, 0)
    if path[-1] == "kernel":
        return read(name, shape[::-1]).T
    if path[-1] == "pos_embed":
        return read(name, (1, shape[2], *shape[:2]))[0].transpose(1, 2, 0)
    return read(name, shape)


def fill(module, size, read):
    """The variables of a module for clips of a height and width, from `read` (see `leaf`)."""
    clip = jax.ShapeDtypeStruct((1, 3, module.frames, *size), jnp.float32)
    shapes = jax.eval_shape(module.clone(resize="align_corners").init, jax.random.PRNGKey(0), clip)
    flat = flatten_dict(shapes)
    return unflatten_dict({path: leaf(path[1:], value.shape, read) for path, value in flat.items()})


def make_model(
    seed=0, size=224, depth=50, width=1.0, frames=16, classes=400, pos_dim=(56, 28, 14, 7), resize="align_corners"
):
    """The module, and its variables with formula weights. The variables do not depend on the size."""
    module = SqueezeTime(depth, width, frames, classes, tuple(pos_dim), resize)

    def read(name, shape):
        return formula.parameter(formula.official_name(name), shape, seed)

    return module, fill(module, (size, size) if isinstance(size, int) else size, read)
