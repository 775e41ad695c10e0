"""Flax ports for the tests of live candidates: the worked example, right and with its mistake, and one in NNX."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "scripts/examples"))

import flax_port


def right(size, depth, width, frames, classes):
    return flax_port.make_model(0, size, depth, width, frames, classes)


def lost_embedding(size, depth, width, frames, classes):
    return flax_port.make_model(0, size, depth, width, frames, classes, resize="scale_and_translate")


def without_variables(size, depth, width, frames, classes):
    return right(size, depth, width, frames, classes)[0]
