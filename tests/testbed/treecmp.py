"""Compares two directory trees, entry by entry, as an image's user could tell them apart.

Names are bytes throughout. Differences come out as text lines that begin with the path, invalid bytes escaped.
"""

import dataclasses
import hashlib
import os
import stat

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Ignore:
    """What not to compare. Directories' sizes and link counts differ between filesystems by nature."""

    directory_mtime: bool = False
    directory_size: bool = True
    directory_nlink: bool = True
    nlink: bool = False
    xattrs: tuple = ()
    paths: tuple = ()


@dataclasses.dataclass
class Entry:
    """One file of a tree. `links` is the first path of its hard-link group, in sorted order."""

    stat: os.stat_result
    link_to: bytes
    xattrs: dict
    links: bytes = b""


def compare_trees(left, right, ignore=Ignore(), limit=20, content=True):
    """The first `limit` differences between trees `left` and `right`; an empty list if there are none.

    content: read and hash every regular file whose size agrees (once per hard-link group).
    """
    trees = [_scan(os.fsencode(os.fspath(top)), ignore) for top in (left, right)]
    tops = [os.fsencode(os.fspath(top)) for top in (left, right)]
    differences = []
    hashed = set()
    for path in sorted(set(trees[0]) | set(trees[1])):
        if len(differences) >= limit:
            break
        pair = [tree.get(path) for tree in trees]
        if None in pair:
            differences.append(f"{show(path)}: only in {'right' if pair[0] is None else 'left'}")
            continue
        found = _compare_entry(path, *pair, ignore)
        if content and not found and stat.S_ISREG(pair[0].stat.st_mode) and pair[0].links not in hashed:
            hashed.add(pair[0].links)
            found = _compare_content(path, tops)
        differences += found
    return differences[:limit]


def show(path):
    """A path as printable text."""
    text = path.decode("utf-8", "backslashreplace") or "."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _scan(top, ignore):
    """{relative path: Entry}, '' for the top itself. Does not follow symlinks."""
    entries = {}
    pending = [b""]
    ignored_paths = {os.fsencode(path) for path in ignore.paths}
    while pending:
        path = pending.pop()
        if path in ignored_paths:
            continue
        full = os.path.join(top, path) if path else top
        info = os.lstat(full)
        entries[path] = Entry(info, os.readlink(full) if stat.S_ISLNK(info.st_mode) else b"", _xattrs(full, ignore))
        if stat.S_ISDIR(info.st_mode):
            pending += [os.path.join(path, name) for name in os.listdir(full)]
    groups = {}
    for path in sorted(entries):
        info = entries[path].stat
        # Not by link count: a filesystem that reports 1 for linked files must be seen.
        key = (info.st_dev, info.st_ino) if not stat.S_ISDIR(info.st_mode) else path
        entries[path].links = groups.setdefault(key, path)
    return entries


def _xattrs(full, ignore):
    try:
        names = os.listxattr(full, follow_symlinks=False)
    except OSError:
        return {}
    kept = [name for name in names if not name.startswith("trusted.overlay.") and name not in ignore.xattrs]
    return {name: os.getxattr(full, name, follow_symlinks=False) for name in kept}


def _compare_entry(path, left, right, ignore):
    kinds = [stat.S_IFMT(entry.stat.st_mode) for entry in (left, right)]
    if kinds[0] != kinds[1]:
        return [f"{show(path)}: type {kinds[0]:o} != {kinds[1]:o}"]
    is_dir = stat.S_ISDIR(kinds[0])
    found = []

    def check(what, values, skip=False):
        if not skip and values[0] != values[1]:
            found.append(f"{show(path)}: {what} {values[0]!r} != {values[1]!r}")

    def pair(name):
        return getattr(left.stat, name), getattr(right.stat, name)
    check("mode", tuple(f"{mode:o}" for mode in pair("st_mode")))
    check("uid", pair("st_uid"))
    check("gid", pair("st_gid"))
    check("mtime_ns", pair("st_mtime_ns"), is_dir and ignore.directory_mtime)
    check("size", pair("st_size"), is_dir and ignore.directory_size)
    check("nlink", pair("st_nlink"), ignore.nlink or (is_dir and ignore.directory_nlink))
    check("rdev", pair("st_rdev"), not (stat.S_ISCHR(kinds[0]) or stat.S_ISBLK(kinds[0])))
    check("target", (left.link_to, right.link_to))
    check("xattrs", (left.xattrs, right.xattrs))
    check("hard link of", (show(left.links), show(right.links)))
    return found


def _compare_content(path, tops):
    digests = []
    for top in tops:
        try:
            digests.append(hash_file(os.path.join(top, path)))
        except OSError as error:
            return [f"{show(path)}: cannot be read in {show(top)}: {error.strerror}"]
    return [] if digests[0] == digests[1] else [f"{show(path)}: content {digests[0][:16]} != {digests[1][:16]}"]


def hash_file(path):
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
