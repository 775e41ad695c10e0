"""Flax ports for the tests of live candidates: the worked example, right and with its mistake, and one in NNX."""

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "scripts/examples"))

import flax_port
from flax.traverse_util import flatten_dict, unflatten_dict


def right(size, depth, width, frames, classes):
    return flax_port.make_model(0, size, depth, width, frames, classes)


def lost_embedding(size, depth, width, frames, classes):
    return flax_port.make_model(0, size, depth, width, frames, classes, resize="scale_and_translate")


def without_variables(size, depth, width, frames, classes):
    return right(size, depth, width, frames, classes)[0]


def own(name):
    """A name that says nothing."""
    return name if name == "fc" else "m" + hashlib.md5(name.encode()).hexdigest()[:5]


def renamed(made):
    """A constructor whose argument `name` is replaced."""

    def make(*arguments, **named):
        if "name" in named:
            return made(*arguments, **{**named, "name": own(named["name"])})
        *others, name = arguments
        return made(*others, own(name))

    return make


def own_names(size, depth, width, frames, classes):
    """A port with the lost embedding whose modules have names of their own."""
    _, variables = lost_embedding(size, depth, width, frames, classes)
    for kind in ("ParamConv", "GloConv", "InterObjectInteraction", "ChannelTimeLearning", "Block", "norm"):
        setattr(flax_port, kind, renamed(getattr(flax_port, kind)))
    conv = flax_port.conv
    flax_port.conv = lambda features, kernel, name, *rest, **named: conv(features, kernel, own(name), *rest, **named)
    module = flax_port.SqueezeTime(depth, width, frames, classes, resize="scale_and_translate")
    flat = flatten_dict(variables)
    return module, unflatten_dict({(p[0], *map(own, p[1:-1]), p[-1]): leaf for p, leaf in flat.items()})
