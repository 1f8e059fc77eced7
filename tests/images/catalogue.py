"""The test images by name: what each is, whether it can be built here, and where its OCI layout is."""

import importlib
import pathlib
import shutil

from images import cache

NAMES = ["small", "python", "nodeapp", "nasty", "nasty-parser"]
_HERE = pathlib.Path(__file__).resolve().parent
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def recipe(name):
    """The module of one image: DESCRIPTION, REQUIRES, SOURCES, build(folder)."""
    if name not in NAMES:
        raise KeyError(f"no image {name}; there are {', '.join(NAMES)}")
    return importlib.import_module(f"images.recipe_{name.replace('-', '_')}")


def missing(name):
    """Why the image cannot be built here, or None. An image in the cache needs nothing."""
    if is_cached(name):
        return None
    lacking = [program for program in recipe(name).REQUIRES
               if not shutil.which(program) and not shutil.which(program, path=_SBIN)]
    return f"image {name} needs {', '.join(lacking)}" if lacking else None


def key(name):
    module = recipe(name)
    return cache.key_of([_HERE / source for source in module.SOURCES], name)


def is_cached(name):
    return (cache.cache_dir() / "images" / f"{name}-{key(name)}").is_dir()


def layout(name):
    """The OCI layout folder of an image, built now if the cache lacks it. Never write into it."""
    return cache.get(name, key(name), recipe(name).build)
