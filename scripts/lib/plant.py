"""Mistakes of the catalogue, planted in the PyTorch model of scripts/examples/torch_port.py before it is exported.

`MISTAKES` maps a name of `harness selftest` to a function that lists the places of the mistake in a model: pairs of the
module at which it must be found, and a function that plants it there.
"""

import torch
from torch import nn
from torch.nn import functional as F

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Wrapped(nn.Module):
    """A module with operations before and after it."""

    def __init__(self, inner, before=None, after=None):
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x):
        x = self.inner(self.before(x) if self.before else x)
        return self.after(x) if self.after else x


class BatchNormOfBatch(nn.Module):
    def __init__(self, bn):
        super().__init__()
        self.weight, self.bias, self.eps = bn.weight, bn.bias, bn.eps

    def forward(self, x):
        x = x - x.mean((0, 2, 3), keepdim=True)
        x = x / torch.sqrt((x * x).mean((0, 2, 3), keepdim=True) + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def replace(model, name, module):
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def wrap(model, name, **operations):
    replace(model, name, Wrapped(model.get_submodule(name), **operations))


def named(model, kind, suffix=""):
    return [name for name, module in model.named_modules() if isinstance(module, kind) and name.endswith(suffix)]


def ctls(model):
    return [name.removesuffix(".spatial_conv") for name, _ in model.named_modules() if name.endswith(".spatial_conv")]


def blocks(model):
    return [name for name, module in model.named_modules() if hasattr(module, "residual")]


def bottleneck(model, block):
    return hasattr(model.get_submodule(block), "conv3")


# Places. Each function takes a model and what is done at one place, and returns pairs (module, planting).


def clip(change):
    def plant(model):
        forward = model.forward
        model.forward = lambda x: forward(change(x))

    return lambda model: [("input", plant)]


def values(change):
    """A mistake in the scale of the pixels, from normalised values."""

    def scaled(x):
        std, mean = (torch.tensor(v).view(1, 3, 1, 1, 1) for v in (STD, MEAN))
        return change(x * std + mean)

    return clip(scaled)


def at(names, plant):
    """The module is the one at which the mistake is planted."""
    return lambda model: [(name, lambda m, name=name: plant(m, name)) for name in names(model)]


def parameter(leaf, names, change):
    @torch.no_grad()
    def plant(model, name):
        tensor = getattr(model.get_submodule(name), leaf)
        tensor.copy_(change(tensor.clone()))

    return at(names, plant)


def convs(fits):
    return lambda m: [n for n in named(m, nn.Conv2d) if fits(m.get_submodule(n).weight.shape)]


def wide(shape):
    return shape[2] > 1


def norms(model):
    return named(model, nn.BatchNorm2d)


def set_eps(eps):
    def plant(model, name):
        model.get_submodule(name).eps = eps

    return at(norms, plant)


@torch.no_grad()
def no_statistics(model, name):
    bn = model.get_submodule(name)
    bn.running_mean.zero_(), bn.running_var.fill_(1)


@torch.no_grad()
def no_affine(model, name):
    bn = model.get_submodule(name)
    bn.weight.fill_(1), bn.bias.zero_()


def swapped(model):
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    places = []
    for index, (name, layer) in enumerate(layers):
        other = next((n for n, m in layers[index + 1 :] if m.weight.shape == layer.weight.shape), None)
        if other is None:
            continue

        @torch.no_grad()
        def plant(model, a=name, b=other):
            first, second = model.get_submodule(a).weight, model.get_submodule(b).weight
            kept = first.clone()
            first.copy_(second), second.copy_(kept)

        places.append(((name, other), plant))
    return places


def relus(other):
    """Replaces every ReLU; the module is the first that reads it."""

    def places(model):
        found = [(name, lambda m, n=name: replace(m, n, Wrapped(nn.Identity(), after=other))) for name in named(model, nn.ReLU)]

        def stem(m):
            m.forward = lambda x: tail(m, m.maxpool(other(m.bn1(m.conv1(x.flatten(1, 2))))))

        found.append(("maxpool", stem))
        for block in blocks(model):
            deep = bottleneck(model, block)

            def residual(m, which, block=block, deep=deep):
                own = m.get_submodule(block)
                acts = [other if which == at else F.relu for at in range(3)]

                def forward(x):
                    if own.downsample is not None:
                        x = own.downsample(x)
                    shortcut = x if own.shortcut_conv is None else own.shortcut_conv(x)
                    h = acts[0](own.bn1(own.conv1(x)))
                    h = own.bn2(own.conv2(h))
                    if deep:
                        h = own.bn3(own.conv3(acts[1](h)))
                    return acts[2](h + shortcut)

                own.forward = forward

            found.append((f"{block}.conv2.param_conv.0", lambda m, r=residual: r(m, 0)))
            if deep:
                found.append((f"{block}.conv3", lambda m, r=residual: r(m, 1)))
            found.append((block, lambda m, r=residual: r(m, 2)))
        return found

    return places


def tail(model, x, pool=lambda x: x.mean(2).mean(2)):
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
    return model.fc(pool(x))


def unrectified(model):
    last = [f"{block}.{'bn3' if bottleneck(model, block) else 'bn2'}" for block in blocks(model)]
    others = [n for n in norms(model) if n.endswith(("downsample.1", "shortcut_conv.1"))]
    return last + others


def ctl(site, forward):
    def plant(model, name):
        own = model.get_submodule(name)
        own.forward = lambda x: forward(own, x)

    return lambda model: [(f"{name}{site}", lambda m, n=name: plant(m, n)) for name in ctls(model)]


def gated(own, x):
    return own.param_conv(x) * x


def gate_on_short(own, x):
    g = gated(own, x)
    return own.temporal_conv(g) + own.spatial_conv(g, g)


def ioi(site, forward):
    """`forward` computes the global branch from its layers and the embedding."""

    def plant(model, name):
        own = model.get_submodule(name).spatial_conv

        def run(x, g):
            size = x.shape[2:]
            return own.short_conv(x) * forward(list(own.glo_conv), g, own.positions(size))

        own.forward = run

    return lambda model: [
        (f"{name}.spatial_conv.{site}", lambda m, n=name: plant(m, n)) for name in ctls(model)
    ]


def through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def resized(change):
    """Replaces an embedding that is resized by its resized values."""

    def places(model):
        sizes = map_sizes(model)
        found = []
        for name, size in sizes.items():
            embedding = model.get_submodule(name).pos_embed
            if embedding.shape[2:] == size:
                continue

            def plant(m, name=name, size=size):
                own = m.get_submodule(name)
                own.pos_embed = nn.Parameter(change(own.pos_embed.detach(), size))

            found.append((f"{name}.pos_embed", plant))
        return found

    return places


def map_sizes(model):
    """The size of the map of each IOI, found by a run."""
    sizes, handles = {}, []
    for name, module in model.named_modules():
        if name.endswith("spatial_conv"):
            handles.append(module.register_forward_pre_hook(lambda _, x, n=name: sizes.update({n: x[0].shape[2:]})))
    with torch.no_grad():
        model(torch.zeros(model.example))
    for handle in handles:
        handle.remove()
    return sizes


def pooled_max(model):
    found = [(n, lambda m, n=n: replace(m, n, nn.AdaptiveMaxPool2d(1))) for n in named(model, nn.AdaptiveAvgPool2d)]

    def head(m):
        m.forward = lambda x: tail(m, stem(m, x), lambda x: x.amax(2).amax(2))

    return [*found, ("avgpool", head)]


def stem(model, x):
    return model.maxpool(F.relu(model.bn1(model.conv1(x.flatten(1, 2)))))


def block_forward(forward):
    def plant(model, name):
        own = model.get_submodule(name)

        def run(x):
            before, x = x, x if own.downsample is None else own.downsample(x)
            shortcut = x if own.shortcut_conv is None else own.shortcut_conv(x)
            return forward(own, x, shortcut, before)

        own.forward = run

    return plant


def before_norm(own, x, shortcut, _):
    if hasattr(own, "conv3"):
        h = F.relu(own.bn1(own.conv1(x)))
        h = F.relu(own.bn2(own.conv2(h)))
        return F.relu(own.bn3(own.conv3(h) + shortcut))
    h = F.relu(own.bn1(own.conv1(x)))
    return F.relu(own.bn2(own.conv2(h) + shortcut))


def last_norms_without_shortcut(model):
    plant = block_forward(before_norm)
    return [
        (f"{b}.{'bn3' if bottleneck(model, b) else 'bn2'}", lambda m, b=b: plant(m, b))
        for b in blocks(model)
        if model.get_submodule(b).shortcut_conv is None
    ]


def strided(own, x, _, before):
    return F.relu(own.residual(x) + own.shortcut_conv(before[:, :, ::2, ::2]))


def strided_shortcuts(model):
    plant = block_forward(strided)
    own = model.get_submodule
    fits = [b for b in blocks(model) if own(b).shortcut_conv is not None and own(b).downsample is not None]
    return [(f"{b}.shortcut_conv.0", lambda m, b=b: plant(m, b)) for b in fits]


def same_conv(model, name):
    conv = model.get_submodule(name)
    conv.padding = (0, 0)
    wrap(model, name, before=lambda x: F.pad(x, (1, 2, 1, 2)))


def same_pool(model, name):
    model.maxpool.padding = 0
    wrap(model, name, before=lambda x: F.pad(x, (0, 1, 0, 1), value=float("-inf")))


def stored_in(dtype):
    def plant(model, name):
        layer = model.get_submodule(name)
        layer.weight.data.copy_(layer.weight.to(dtype).float())
        wrap(model, name, after=lambda y: y.to(dtype).float())

    return at(lambda m: named(m, (nn.Conv2d, nn.Linear)), plant)


def to_tf32(weight):
    bits = weight.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def square(shape):
    return shape[0] == shape[1] and shape[0] > 1


IOI = ".spatial_conv."
MISTAKES = {
    "shifted-frame": clip(lambda x: x.roll(1, 2)),
    "reversed-frames": clip(lambda x: x.flip(2)),
    "bgr": clip(lambda x: x.flip(1)),
    "frame-major": clip(lambda x: x.transpose(1, 2).reshape(x.shape)),
    "pixels-0-1": values(lambda x: x / 255),
    "pixels-0-255": values(lambda x: x),
    "pixels-symmetric": values(lambda x: x / 127.5 - 1),
    "same-padding": at(lambda m: ["conv1"], same_conv),
    "max-pool-same": at(lambda m: ["maxpool"], same_pool),
    "relu-missing": relus(lambda x: x),
    "relu6": relus(F.relu6),
    "relu-added": at(unrectified, lambda m, n: wrap(m, n, after=F.relu)),
    "sigmoid-missing": at(lambda m: named(m, nn.Sigmoid), lambda m, n: replace(m, n, nn.Identity())),
    "sigmoid-early": ioi("glo_conv.6", lambda l, x, e: l[6](torch.sigmoid(through(l[3:6], through(l[:3], x) + e)))),
    "hard-sigmoid": at(lambda m: named(m, nn.Sigmoid), lambda m, n: replace(m, n, nn.Hardsigmoid())),
    "missing-gate": ctl(".param_conv.5", lambda c, x: c.temporal_conv(x) + c.spatial_conv(x, x)),
    "gate-missing-tfc": ctl(".temporal_conv", lambda c, x: c.temporal_conv(x) + c.spatial_conv(x, gated(c, x))),
    "gate-missing-ioi": ctl(IOI + "glo_conv.0", lambda c, x: c.temporal_conv(gated(c, x)) + c.spatial_conv(x, x)),
    "gate-on-short": ctl(IOI + "short_conv", gate_on_short),
    "ioi-missing": ctl(".spatial_conv", lambda c, x: c.temporal_conv(gated(c, x))),
    "tfc-missing": ctl("", lambda c, x: c.spatial_conv(x, gated(c, x))),
    "align-corners": resized(lambda e, size: F.interpolate(e, size, mode="bilinear")),
    "resize-antialias": resized(
        lambda e, size: F.interpolate(e, size, mode="bilinear", align_corners=True, antialias=True)
    ),
    "embedding-dropped": ioi("pos_embed", lambda l, x, e: through(l, x)),
    "embedding-late": ioi("glo_conv.3", lambda l, x, e: through(l[4:], l[3](through(l[:3], x)) + e)),
    "embedding-before-relu": ioi("glo_conv.2", lambda l, x, e: through(l[2:], through(l[:2], x) + e)),
    "embedding-before-bn": ioi("glo_conv.1", lambda l, x, e: through(l[1:], l[0](x) + e)),
    "embedding-transposed": at(
        lambda m: [n + ".pos_embed" for n in named(m, nn.Module, "spatial_conv")],
        lambda m, n: m.get_submodule(n.removesuffix(".pos_embed")).pos_embed.data.copy_(
            m.get_submodule(n.removesuffix(".pos_embed")).pos_embed.data.transpose(2, 3).clone()
        ),
    ),
    "swapped-weights": swapped,
    "transposed-kernel": parameter("weight", convs(wide), lambda w: w.transpose(2, 3)),
    "turned-kernel": parameter("weight", convs(wide), lambda w: w.flip(2, 3)),
    "kernel-hwio": parameter("weight", convs(wide), lambda w: w.permute(2, 3, 1, 0).reshape(w.shape)),
    "kernel-io-exchanged": parameter("weight", convs(square), lambda w: w.transpose(0, 1)),
    "channel-off": parameter("weight", convs(lambda s: s[0] * s[1] > 1), lambda w: w.roll(1, 1 if w.shape[1] > 1 else 0)),
    "bias-missing": parameter(
        "bias",
        lambda m: [n for n in named(m, (nn.Conv2d, nn.Linear)) if m.get_submodule(n).bias is not None],
        torch.zeros_like,
    ),
    "dense-order": parameter("weight", lambda m: ["fc"], lambda w: w.t().reshape(w.shape)),
    "eps": set_eps(1e-3),
    "eps-1e-6": set_eps(1e-6),
    "eps-0": set_eps(1e-30),  # PyTorch refuses 0
    "bn-statistics": at(norms, no_statistics),
    "bn-affine": at(norms, no_affine),
    "bn-deviation": parameter("running_var", norms, lambda v: v * v),
    "bn-training": at(
        lambda m: [n for n in norms(m) if "param_conv" not in n],
        lambda m, n: replace(m, n, BatchNormOfBatch(m.get_submodule(n))),
    ),
    "bn-missing": at(norms, lambda m, n: replace(m, n, nn.Identity())),
    "max-for-mean": pooled_max,
    "residual-missing": at(blocks, block_forward(lambda own, x, shortcut, _: F.relu(own.residual(x)))),
    "residual-after-relu": at(blocks, block_forward(lambda own, x, shortcut, _: F.relu(own.residual(x)) + shortcut)),
    "residual-before-bn": last_norms_without_shortcut,
    "shortcut-strided": strided_shortcuts,
    "softmax": at(lambda m: ["fc"], lambda m, n: wrap(m, n, after=lambda y: torch.softmax(y, 1))),
    "bf16": stored_in(torch.bfloat16),
    "f16": stored_in(torch.float16),
    "tf32": parameter("weight", lambda m: named(m, nn.Conv2d), to_tf32),
}
