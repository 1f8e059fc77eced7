"""A folder of built things, keyed by a hash of what they are built from; concurrent builders wait for each other."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
_KEEP_SECONDS = 14 * 24 * 3600


def cache_dir():
    """PAGEIN_CACHE, or .cache/ of this checkout."""
    return pathlib.Path(os.environ.get("PAGEIN_CACHE", CHECKOUT / ".cache"))


def key_of(sources, *values):
    """Hash of source files' contents and of values."""
    digest = hashlib.sha256()
    for source in sorted(map(str, sources)):
        digest.update(pathlib.Path(source).read_bytes() + b"\0")
    for value in values:
        digest.update(repr(value).encode() + b"\0")
    return digest.hexdigest()[:16]


def get(name, key, build):
    """The folder of (name, key): built by build(empty folder) unless it is there. Blocks while another builds it."""
    folder = cache_dir() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{key}"
    if target.is_dir():
        os.utime(target)
        return target
    with _locked(folder / f"{name}.lock"):
        if target.is_dir():
            return target
        for abandoned in folder.glob(f"{name}-{'[0-9a-f]' * 16}.tmp"):
            shutil.rmtree(abandoned, ignore_errors=True)
        work = folder / f"{name}-{key}.tmp"
        work.mkdir()
        started = time.monotonic()
        try:
            build(work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        (work / "build-seconds").write_text(f"{time.monotonic() - started:.1f}\n")
        work.rename(target)
        _drop_old(folder, name, target)
    return target


@contextlib.contextmanager
def _locked(path):
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _drop_old(folder, name, keep):
    """Removes other versions of `name` that nobody has used for two weeks."""
    for other in folder.glob(f"{name}-{'[0-9a-f]' * 16}"):
        if other != keep and time.time() - other.stat().st_mtime > _KEEP_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
