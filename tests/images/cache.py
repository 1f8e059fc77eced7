"""A folder of built things, keyed by a hash of what they are built from; concurrent builders wait for each other."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
_KEEP_SECONDS = 14 * 24 * 3600

_MEMORY = pathlib.Path("/dev/shm")
_SCRATCH_PREFIX = "pagein-images."
# What the largest image needs while it is built, with room to spare.
_SCRATCH_BYTES = 8 << 30


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
def scratch(beside):
    """An empty folder for a build's many small files: in memory if there is plenty, else in the folder `beside`.

    On a filesystem mounted with `discard`, removing a hundred thousand files takes minutes.
    """
    for abandoned in _MEMORY.glob(f"{_SCRATCH_PREFIX}*"):
        if not os.path.exists(f"/proc/{abandoned.name.split('.')[1]}"):
            shutil.rmtree(abandoned, ignore_errors=True)
    parent = _MEMORY if _memory_is_plenty() else pathlib.Path(beside)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{os.getpid()}.", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _memory_is_plenty():
    if not os.path.ismount(_MEMORY) or os.statvfs(_MEMORY).f_flag & (os.ST_NODEV | os.ST_NOEXEC):
        return False
    if shutil.disk_usage(_MEMORY).free < _SCRATCH_BYTES:
        return False
    available = re.search(r"MemAvailable:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    return bool(available) and int(available[1]) * 1024 >= _SCRATCH_BYTES


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
