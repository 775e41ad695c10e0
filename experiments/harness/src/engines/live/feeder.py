"""Shows the outputs of modules to the harness in the harness's order, and feeds what it answers.

A program may run its modules in another order than the model lists them: one computes the shortcut first, another
last. What a module is fed must not depend on that. So an output that comes too early is kept, and once the harness
has answered for it, the network is run again with all answers so far, up to the first module that is still unknown.
Blocks whose outputs are all known are not computed again. Without an answer that replaces something, one run is
enough. Knows nothing of a framework.
"""


class Stopped(BaseException):
    """The harness wants no more values. No handler for Exception in the user's program catches it."""


class Again(BaseException):
    """The network must be run again, because an answer came after its module had been left."""


class Feeder:
    """One forward pass of the harness, for which the network may be run several times.

    `shown` are the names of the modules in the harness's order. `ask(index, value)` sends a value and returns the
    replacement, or None to continue. `keep(value)` copies a value, which an in-place operation may change later.
    """

    def __init__(self, shown, ask, keep):
        self.places = {name: at for at, name in enumerate(shown)}
        self.ask, self.keep = ask, keep
        self.next = 0  # the first module for which the harness has not answered
        self.fed = {}  # replacements by place
        # A container is not computed again if it and everything below it have been answered.
        last = {}
        for name, at in self.places.items():
            parts = name.replace("/", ".").split(".")
            for cut in range(1, len(parts) + 1):
                path = ".".join(parts[:cut])
                last[path] = max(last.get(path, -1), at)
        self.last_below = last

    def start(self):
        """Begins a run of the network."""
        self.early = {}  # values by place, in the order in which they came

    def skip(self, name):
        """The known output of a module that need not be computed; None if it must be."""
        at = self.places.get(name)
        if at in self.fed and self.last_below[name.replace("/", ".")] < self.next:
            return self.fed[at]
        return None

    def visit(self, name, value):
        """Shows an output and returns its replacement, or None to keep it."""
        at = self.places.get(name)
        if at is None:
            return None
        if at < self.next:
            return self.fed.get(at)
        if at > self.next:
            self.early[at] = self.keep(value)
            return None
        replacement = self.answer(at, value)
        self.drain()
        return replacement

    def answer(self, at, value):
        self.next = at + 1
        replacement = self.ask(at, value)
        if replacement is not None:
            self.fed[at] = replacement
        return replacement

    def drain(self):
        """Shows the kept values whose turn has come."""
        while self.next in self.early:
            at = self.next
            value = self.early.pop(at)
            if self.answer(at, value) is not None:
                raise Again

    def run(self, forward):
        """Calls `forward` until every module was shown, and returns its last output."""
        while True:
            before = self.next
            self.start()
            try:
                output = forward()
                self.finish()
                return output
            except Again:
                if self.next == before:
                    raise

    def finish(self):
        """Shows what is left after a run. A module that did not run this time is passed over."""
        while self.early:
            self.next = min(self.early)
            self.drain()
