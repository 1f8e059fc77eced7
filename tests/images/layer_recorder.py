"""Turns a root filesystem that grows step by step into image layers: after each step, a tar of what changed."""

import concurrent.futures
import gzip
import hashlib
import os
import pathlib
import shutil
import subprocess

from images.oci_layout import OCI_LAYER_GZIP, Layer


class LayerRecorder:
    """Confined to one thread. Layers are compressed in the background; finish() waits for them.

    Changed means another inode, ctime or type than at the step before; what is gone becomes an OCI whiteout.
    fixed_mtime: seconds since the epoch for every entry, for images that must be the same bytes each time.
    """

    def __init__(self, rootfs, work, fixed_mtime=None):
        self.rootfs = pathlib.Path(rootfs)
        self._work = pathlib.Path(work)
        self._work.mkdir(parents=True, exist_ok=True)
        self._fixed_mtime = fixed_mtime
        self._seen = {}
        self._pending = []
        self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)

    def layer(self, created_by):
        """Records everything that changed since the last call as one layer."""
        now = _scan(os.fsencode(self.rootfs))
        changed = sorted(path for path, state in now.items() if self._seen.get(path) != state)
        gone = [path for path in self._seen if path not in now and (os.path.dirname(path) or b".") in now]
        tar_path = self._work / f"layer{len(self._pending)}.tar"
        self._write_tar(tar_path, changed, gone)
        self._seen = now
        self._pending.append(self._pool.submit(_compress, tar_path, created_by))

    def finish(self):
        """The layers, in order."""
        layers = [future.result() for future in self._pending]
        self._pool.shutdown()
        return layers

    def _write_tar(self, tar_path, changed, gone):
        whiteouts = self._work / "whiteouts"
        shutil.rmtree(whiteouts, ignore_errors=True)
        whiteouts.mkdir()
        names = []
        for path in gone:
            name = os.path.join(os.path.dirname(path), b".wh." + os.path.basename(path))
            target = os.path.join(os.fsencode(whiteouts), name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "wb").close()
            names.append(name)
        lists = []
        for label, entries in (("changed", changed), ("gone", names)):
            list_path = self._work / label
            list_path.write_bytes(b"".join(name + b"\0" for name in entries))
            lists.append(list_path)
        argv = ["tar", "--create", "--file", tar_path, "--format=pax", "--numeric-owner", "--xattrs",
                "--xattrs-include=*", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
                "--no-recursion", "--null", "--verbatim-files-from"]
        if self._fixed_mtime is not None:
            argv.append(f"--mtime=@{self._fixed_mtime}")
        argv += ["-C", self.rootfs, "-T", lists[0], "-C", whiteouts, "-T", lists[1]]
        subprocess.run([str(word) for word in argv], check=True)


def _scan(top):
    """{relative path: (inode, ctime, type)} of everything below top, without what a chroot mounts or sockets."""
    result = {}
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                state = entry.stat(follow_symlinks=False)
                is_dir = entry.is_dir(follow_symlinks=False)
                # A directory's ctime changes with its entries; only its own mode and owner matter.
                result[path] = (state.st_ino, state.st_mode, state.st_uid, 0 if is_dir else state.st_ctime_ns)
                if is_dir:
                    pending.append(path)
    return result


def _compress(tar_path, created_by):
    """Compresses a tar as one gzip stream by zlib, the way most builders do, and removes it."""
    target = tar_path.with_suffix(".tar.gz")
    digest = hashlib.sha256()
    with open(tar_path, "rb") as source, open(target, "wb") as raw, \
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
    tar_path.unlink()
    return Layer(target, OCI_LAYER_GZIP, f"sha256:{digest.hexdigest()}", created_by)
