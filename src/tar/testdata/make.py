#!/usr/bin/env python3
"""Makes the archives in this folder: one small tree, written by GNU tar, bsdtar
(package libarchive-tools) and Python in every format they know, and broken
archives (should-fail-*). Run as root, so that there are devices and owners, in
an empty folder on a file system with extended attributes; it writes beside
itself. testdata_test.cpp reads them; listing.txt says what is in them (run that
test with PAGEIN_UPDATE_GOLDEN=1 to write it anew, then compare with `tar -tv`).
"""
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = HERE.parent / "stream_reader_fuzz.seeds"
TIME = 1_600_000_000


def make_tree(root):
    """One of each kind of file, and names that not every format can hold."""
    long_name = "n" * 120
    deep = "d" * 120 + "/" + "e" * 120
    (root / deep).mkdir(parents=True)
    (root / deep / "file").write_bytes(b"deep\n")
    (root / long_name).write_bytes(b"long\n")
    (root / "run").write_bytes(b"#!/bin/sh\n")
    os.chown(root / "run", 3_000_000, 20)
    os.chmod(root / "run", 0o6755)
    os.link(root / "run", root / "run-again")
    os.symlink("t" * 150, root / "symlink")
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    (root / os.fsdecode(b"latin-\xe4")).write_bytes(b"\xe4")
    os.setxattr(root / "run", "user.note", b"a=b\0c")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    os.utime(root / "pipe", ns=(0, -1_500_000_000))
    os.utime(root / "null", ns=(0, TIME * 10**9 + 123_456_789))
    os.utime(root, (TIME, TIME))


def make_sparse(root):
    root.mkdir()
    with open(root / "few", "wb") as file:
        file.truncate(300_000)
        for at in (0, 65536, 262144):
            file.seek(at)
            file.write(b"x" * 100)
    with open(root / "many", "wb") as file:
        for i in range(20):
            file.seek(i * 32768)
            file.write(b"m")
    with open(root / "holes", "wb") as file:
        file.truncate(1_000_000)
    for path in root.iterdir():
        os.utime(path, (TIME, TIME))
    os.utime(root, (TIME, TIME))


def run(*command):
    # Formats that cannot hold a name leave that file out and complain.
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


def by_gnu_tar(work):
    for form in ("v7", "ustar", "oldgnu", "gnu"):
        run("tar", "-b1", "--sort=name", "--numeric-owner", f"--format={form}",
            "-cf", HERE / f"gnutar-{form}.tar", "-C", work, "tree")
    pax = "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/pax/%f"
    run("tar", "-b1", "--sort=name", "--numeric-owner", "--format=posix", "--xattrs", pax,
        "-cf", HERE / "gnutar-posix.tar", "-C", work, "tree")
    run("tar", "-b1", "--sort=name", "--numeric-owner", "--format=gnu", "-S", "--hole-detection=raw",
        "-cf", HERE / "gnutar-sparse-gnu.tar", "-C", work, "sparse")
    for version in ("0.0", "0.1", "1.0"):
        run("tar", "-b1", "--sort=name", "--numeric-owner", "--format=posix", pax, "-S",
            "--hole-detection=raw", f"--sparse-version={version}", "-cf", HERE / f"gnutar-sparse-{version}.tar",
            "-C", work, "sparse")
    run("tar", "-b1", "--sort=name", "--numeric-owner", "--format=gnu",
        f"--listed-incremental={work}/snapshot", "--label=volume",
        "-cf", HERE / "gnutar-incremental.tar", "-C", work, "tree/" + "d" * 120)


def by_bsdtar(work):
    for form in ("ustar", "gnutar", "pax", "v7tar"):
        run("bsdtar", "-b", "1", "--numeric-owner", "--format", form,
            "-cf", HERE / f"bsdtar-{form}.tar", "-C", work, "tree")
    run("bsdtar", "-b", "1", "--numeric-owner", "--format", "pax",
        "-cf", HERE / "bsdtar-sparse.tar", "-C", work, "sparse/few", "sparse/holes")


def by_python(work):
    for form, number in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT),
                         ("pax", tarfile.PAX_FORMAT)):
        headers = {"comment": "global"} if form == "pax" else None
        with tarfile.open(HERE / f"python-{form}.tar", "w", format=number,
                          pax_headers=headers) as archive:
            for path in [work / "tree", *sorted((work / "tree").rglob("*"))]:
                info = archive.gettarinfo(path, path.relative_to(work))
                info.uname = info.gname = ""
                try:
                    with open(path, "rb") if info.isreg() else open(os.devnull, "rb") as file:
                        archive.addfile(info, file)
                except (ValueError, OverflowError, UnicodeError):
                    pass  # this format cannot hold it
        trim(HERE / f"python-{form}.tar")


def trim(path):
    """Python pads to 10 KiB; two zero blocks are enough."""
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(padded(content) + bytes(1024))


def checksum(block):
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)


def header(name, size, kind=b"0"):
    block = bytearray(512)
    block[0:len(name)] = name
    block[100:108] = block[108:116] = block[116:124] = b"0000644\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"14000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    checksum(block)
    return block


def padded(content):
    return content + bytes(-len(content) % 512)


def pax(*records):
    text = b""
    for record in records:
        length = len(record) + 2
        while length != len(record) + 2 + len(str(length)):
            length += 1
        text += b"%d %s\n" % (length, record)
    return bytes(header(b"pax", len(text), b"x")) + padded(text)


def broken():
    good = bytes(header(b"file", 600)) + padded(b"x" * 600)
    wrong_sum = bytearray(header(b"file", 0))
    wrong_sum[0] ^= 1
    negative = bytearray(header(b"file", 0))
    negative[124:136] = b"\xff" * 12
    checksum(negative)
    number = bytearray(header(b"file", 0))
    number[108:116] = b"0000x44\0"
    checksum(number)
    long_record = bytes(header(b"pax", 11, b"x")) + padded(b"99 path=abc")
    sparse = pax(b"GNU.sparse.size=100", b"GNU.sparse.numblocks=2",
                 b"GNU.sparse.map=0,5,4,5") + bytes(header(b"file", 10)) + padded(b"0123456789")
    return {
        "truncated-header": good + good[:100],
        "truncated-content": good + good[:1000],
        "checksum": good + bytes(wrong_sum),
        "negative-size": bytes(negative),
        "malformed-number": bytes(number),
        "lone-zero-block": good + bytes(512) + good,
        "pax-length": long_record,
        "pax-nul-in-path": pax(b"path=a\0b") + good,
        "pax-time": pax(b"mtime=12a") + good,
        "sparse-overlap": sparse,
        "huge-long-name": bytes(header(b"././@LongLink", (1 << 20) + 1, b"L")),
        "unknown-type": bytes(header(b"file", 0, b"Z")),
    }


def main():
    work = pathlib.Path(tempfile.mkdtemp())
    try:
        make_tree(work / "tree")
        make_sparse(work / "sparse")
        by_gnu_tar(work)
        by_bsdtar(work)
        by_python(work)
    finally:
        shutil.rmtree(work)
    for name, content in broken().items():
        (HERE / f"should-fail-{name}.tar").write_bytes(content)
    SEEDS.mkdir(exist_ok=True)
    for path in HERE.glob("*.tar"):
        if path.stat().st_size < 4000 or "sparse-1.0" in path.name or "gnu-" in path.name:
            shutil.copy(path, SEEDS / path.name)


if __name__ == "__main__":
    main()
