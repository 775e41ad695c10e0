"""What all peers share."""

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of red, green and blue, for values from 0 to 255


class Refused(Exception):
    """A request that the peer does not support; the message is one sentence."""


def frames_of(clip):
    """The bytes [N, T, H, W, 3] from which a clip [N, 3, T, H, W] was normalised."""
    import numpy

    values = clip.transpose(0, 2, 3, 4, 1) * numpy.float32(STD) + numpy.float32(MEAN)
    return numpy.ascontiguousarray(numpy.rint(values).astype(numpy.uint8))


class Runtime:
    """A runtime that takes the clip as a numpy array."""

    frames = None

    def run_bytes(self):
        """Runs the network on frames in bytes."""
        import numpy

        if self.frames is None:
            self.frames = frames_of(self.clip)
        values = (self.frames.astype(numpy.float32) - numpy.float32(MEAN)) / numpy.float32(STD)
        self.stage(numpy.ascontiguousarray(values.transpose(0, 4, 1, 2, 3)))
        self.run()
