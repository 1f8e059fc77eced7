"""What an oddity is: a named group of layers that go together, on top of busybox."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Oddity:
    """layers: the uncompressed tars, bottom first. Each oddity keeps below the folder of its name where it can."""

    name: str
    why: str
    layers: tuple


def pattern(size, seed=0):
    """`size` bytes that compress a little, differ by seed, and have no zero byte."""
    unit = bytes((index * 7 + seed * 13 + index // 251) % 255 + 1 for index in range(1009))
    return (unit * (size // len(unit) + 1))[:size]


def collect(module):
    """Every Oddity that the functions odd_NAME of a module make, in the order of their definition."""
    found = []
    for name, function in vars(module).items():
        if name.startswith("odd_") and callable(function):
            tars = function()
            layers = tars if isinstance(tars, tuple) else (tars,)
            found.append(Oddity(name.removeprefix("odd_").replace("_", "-"), function.__doc__, layers))
    return found
