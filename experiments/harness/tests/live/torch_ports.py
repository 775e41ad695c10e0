"""PyTorch ports for the tests of live candidates: the worked example, right and with one mistake each."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "scripts/examples"))

import torch
import torch_port
from torch import nn
from torch.nn import functional as F

print("a program may print")


def right(depth, width, frames, classes, pos_dim):
    return torch_port.make_model(0, depth, width, frames, classes, pos_dim)


def from_checkpoint(path, depth, width, frames, classes):
    model = torch_port.SqueezeTime(depth, width, frames, classes)
    model.load_state_dict(torch.load(path)["state_dict"], strict=False)
    return model


def prefixed(depth, width, frames, classes):
    """As a training program wraps it, with names such as module.backbone.net.conv1, and in training mode."""
    outer = nn.Sequential()
    outer.add_module("module", right(depth, width, frames, classes, (56, 28, 14, 7)))
    return outer.train()


def half(depth, width, frames, classes):
    return right(depth, width, frames, classes, (56, 28, 14, 7)).to(torch.bfloat16)


class ChannelsLast(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, clip):
        if clip.shape[-1] != 3:
            raise ValueError(f"expected colours in the last dimension, got {tuple(clip.shape)}")
        return self.net(clip.permute(0, 4, 1, 2, 3))


def channels_last(depth, width, frames, classes):
    return ChannelsLast(right(depth, width, frames, classes, (56, 28, 14, 7)))


class InPlace(torch_port.BasicBlock):
    """ReLUs and the addition run in place, and what the ReLU returns is ignored, as in much published code."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        if self.downsample is not None:
            x = self.downsample(x)
        residual = self.conv1(x)
        residual = self.bn1(residual)
        self.relu(residual)
        residual = self.bn2(self.conv2(residual))
        residual += x if self.shortcut_conv is None else self.shortcut_conv(x)
        return F.relu_(residual)


def in_place(depth, width, frames, classes):
    torch_port.BasicBlock = InPlace
    return right(depth, width, frames, classes, (56, 28, 14, 7))


# Ports with one mistake.


def align_corners(depth, width, frames, classes):
    def positions(self, size):
        return F.interpolate(self.pos_embed, size, mode="bilinear", align_corners=False)

    torch_port.InterObjectInteraction.positions = positions
    return right(depth, width, frames, classes, (56, 28, 14, 7))


def eps(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    model.layer2[0].bn1.eps = 1e-3
    return model


def missing_relu(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    block = model.layer2[0]
    block.residual = lambda x: block.bn2(block.conv2(block.bn1(block.conv1(x))))
    return model


def transposed(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    weight = model.layer1[0].conv2.temporal_conv.weight
    with torch.no_grad():
        weight.copy_(weight.transpose(0, 1).clone())
    return model


def tfc_off(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    ctl = model.layer3[0].conv1
    ctl.forward = lambda x: ctl.spatial_conv(x, ctl.param_conv(x) * x)
    return model


def softmax(depth, width, frames, classes):
    model = nn.Sequential()
    model.add_module("net", right(depth, width, frames, classes, (56, 28, 14, 7)))
    model.add_module("softmax", nn.Softmax(1))
    return model


def random(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    model.layer1[0].bn1.register_forward_hook(lambda module, inputs, output: output + 1e-9 * torch.randn(1))
    return model


def mixed(depth, width, frames, classes):
    """One gate for all clips of a batch."""
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    pool = model.layer2[0].conv1.param_conv[0]
    pool.register_forward_hook(lambda module, inputs, output: output[:1].expand_as(output))
    return model


class Rectified(torch_port.BasicBlock):
    """What all branches read is changed behind the module that made it."""

    def forward(self, x):
        if self.downsample is not None:
            x = F.relu(self.downsample(x))
        residual = self.residual(x)
        return F.relu(residual + (x if self.shortcut_conv is None else self.shortcut_conv(x)))


def rectified(depth, width, frames, classes):
    torch_port.BasicBlock = Rectified
    return right(depth, width, frames, classes, (56, 28, 14, 7))


def blended(depth, width, frames, classes):
    """Half of each clip is the one before it."""
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    last = []

    def blend(module, inputs):
        last.append(inputs[0].clone())
        return (0.5 * last[-1] + 0.5 * last[max(0, len(last) - 2)],)

    model.register_forward_pre_hook(blend)
    return model


class PooledFirst(torch_port.SqueezeTime):
    """The maximum of ReLUs is the ReLU of the maximum, but the pool then shows negative values."""

    def forward(self, clip):
        x = F.relu(self.maxpool(self.bn1(self.conv1(clip.flatten(1, 2)))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean(2).mean(2))


def pooled_first(depth, width, frames, classes):
    torch_port.SqueezeTime = PooledFirst
    return right(depth, width, frames, classes, (56, 28, 14, 7))


class Inference(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    @torch.inference_mode()
    def forward(self, clip):
        return self.net(clip)


def inference(depth, width, frames, classes):
    return Inference(right(depth, width, frames, classes, (56, 28, 14, 7)))


class Double(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, clip):
        if clip.shape[-2] != clip.shape[-1]:
            raise ValueError("frames must be square")
        return self.net(clip.double()).float()


def double(depth, width, frames, classes):
    """In float64 but for the clip and the logits, and for square frames only."""
    return Double(right(depth, width, frames, classes, (56, 28, 14, 7)))


def one_at_a_time(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    model.register_forward_pre_hook(lambda module, inputs: inputs[0].reshape(1, 3, frames, *inputs[0].shape[-2:]))
    return model


# Functions that fail.


def raises(depth, width, frames, classes):
    raise RuntimeError("the weights\nare lost")


def raises_later(depth, width, frames, classes):
    model = right(depth, width, frames, classes, (56, 28, 14, 7))
    model.layer1[0].forward = lambda x: x.no_such_method()
    return model


def dies(depth):
    os.kill(os.getpid(), 11)


def nothing(depth):
    return None


def needs(depth, secret, other):
    return None
