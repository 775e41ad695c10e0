"""SqueezeTime in PyTorch, written from the paper: a worked example of a port.

Module names are the official ones, so `harness diff` reads its state dict and its dump without a mapping of names.
The dump is made by

    python scripts/dump_activations.py torch --model scripts/examples/torch_port.py:make_model \\
        --kwargs '{"depth": 18, "width": 0.125, "classes": 7}' --size 64 --out dump.npz
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import formula  # noqa: E402  (it lies one folder up)

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BLOCKS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
BASIC_DEPTHS = (10, 18, 34)
STAGE_CHANNELS = (64, 128, 256, 512)
MIDDLE = 16  # channels between the convolutions of the IOI, for any number of frames
BASIC_FIRST_POS_DIM = 7  # embedding of the first CTL of a BasicBlock, in every stage


def conv_bn(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class InterObjectInteraction(nn.Module):
    """IOI: a 3x3 convolution, scaled by the output of a wide path with the positional embedding."""

    def __init__(self, inputs, outputs, pos_dim):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, MIDDLE, pos_dim, pos_dim))
        self.short_conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.glo_conv = nn.Sequential(
            nn.Conv2d(inputs, MIDDLE, 3, padding=1), nn.BatchNorm2d(MIDDLE), nn.ReLU(inplace=True),
            nn.Conv2d(MIDDLE, MIDDLE, 7, padding=3), nn.BatchNorm2d(MIDDLE), nn.ReLU(inplace=True),
            nn.Conv2d(MIDDLE, outputs, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def positions(self, size):
        if self.pos_embed.shape[2:] == size:
            return self.pos_embed
        return F.interpolate(self.pos_embed, size, mode="bilinear", align_corners=True)

    def forward(self, x, gated):
        glo = gated
        for layer in self.glo_conv[:3]:
            glo = layer(glo)
        glo = glo + self.positions(glo.shape[2:])
        for layer in self.glo_conv[3:]:
            glo = layer(glo)
        return self.short_conv(x) * glo


class ChannelTimeLearning(nn.Module):
    """CTL: the channels contain time. A gate scales them, and the outputs of TFC and IOI are added."""

    def __init__(self, inputs, outputs, pos_dim):
        super().__init__()
        self.param_conv = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, inputs, 1, bias=False), nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True), nn.Conv2d(inputs, inputs, 1, bias=False), nn.Sigmoid(),
        )  # fmt: skip
        self.temporal_conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.spatial_conv = InterObjectInteraction(inputs, outputs, pos_dim)

    def forward(self, x):
        gated = self.param_conv(x) * x
        return self.temporal_conv(gated) + self.spatial_conv(x, gated)


class Block(nn.Module):
    """The common parts of both blocks: the downsampling before them and the shortcut around them."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.downsample = self.shortcut_conv = None
        if stride == 2:
            halve = nn.Conv2d(inputs, inputs, 2, stride=2, groups=inputs)
            self.downsample = nn.Sequential(halve, nn.BatchNorm2d(inputs))
        if inputs != outputs:
            self.shortcut_conv = conv_bn(inputs, outputs)

    def forward(self, x):
        if self.downsample is not None:
            x = self.downsample(x)
        shortcut = x if self.shortcut_conv is None else self.shortcut_conv(x)
        return F.relu(self.residual(x) + shortcut)


class BasicBlock(Block):
    expansion = 1

    def __init__(self, inputs, channels, stride, pos_dim):
        super().__init__(inputs, channels, stride)
        self.conv1 = ChannelTimeLearning(inputs, channels, BASIC_FIRST_POS_DIM)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = ChannelTimeLearning(channels, channels, pos_dim)
        self.bn2 = nn.BatchNorm2d(channels)

    def residual(self, x):
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Block):
    expansion = 4

    def __init__(self, inputs, channels, stride, pos_dim):
        super().__init__(inputs, channels * self.expansion, stride)
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = ChannelTimeLearning(channels, channels, pos_dim)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)

    def residual(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class SqueezeTime(nn.Module):
    def __init__(self, depth=50, width=1.0, frames=16, classes=400, pos_dim=(56, 28, 14, 7)):
        super().__init__()
        block = BasicBlock if depth in BASIC_DEPTHS else Bottleneck
        stages = [int(channels * width) for channels in STAGE_CHANNELS]
        self.conv1 = nn.Conv2d(3 * frames, stages[0], 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(stages[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = stages[0]
        for index, channels in enumerate(stages):
            blocks = []
            for position in range(BLOCKS[depth][index]):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(inputs, channels, stride, pos_dim[index]))
                inputs = channels * block.expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, clip):
        """A clip [N, 3, T, H, W] to logits. The frames of each colour become channels."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(clip.flatten(1, 2)))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean(2).mean(2))  # over the height, then over the width


def make_model(seed=0, depth=50, width=1.0, frames=16, classes=400, pos_dim=(56, 28, 14, 7)):
    """The model with formula weights, which a checkpoint given to dump_activations.py replaces."""
    model = SqueezeTime(depth, width, frames, classes, pos_dim)
    state = model.state_dict()
    for name, tensor in state.items():
        value = formula.parameter(formula.official_name(name), tuple(tensor.shape), seed)
        state[name] = torch.from_numpy(value)
    model.load_state_dict(state)
    return model.eval()
