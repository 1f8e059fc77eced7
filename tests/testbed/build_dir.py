"""Where the built programs are: PAGEIN_BUILD, or build/ of this checkout."""

import os
import pathlib

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


def program(name):
    """Path of bin/NAME in the build folder; it may not exist."""
    return pathlib.Path(os.environ.get("PAGEIN_BUILD", CHECKOUT / "build")) / "bin" / name


def missing(name):
    """Why the program cannot run, or None."""
    path = program(name)
    return None if os.access(path, os.X_OK) else f"{path} is not built"
