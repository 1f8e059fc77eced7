"""Oddities of links, special files, owners, times, extended attributes and sizes."""

import struct

from images.nasty.oddity import pattern
from images.nasty.raw_tar import BLOCKDEV, CHAR, FIFO, RawTar

CAP_NET_RAW = 1 << 13


def file_capability(permitted, revision=2, root_id=0):
    """A `security.capability` value: struct vfs_cap_data (ns_cap_data for revision 3) of linux/capability.h."""
    value = struct.pack("<IIIII", revision << 24 | 1, permitted, 0, 0, 0)
    return value + struct.pack("<I", root_id) if revision == 3 else value


def xattrs(values):
    """pax records that carry extended attributes."""
    return {b"SCHILY.xattr." + name: value for name, value in values.items()}


def odd_hardlinks():
    """Links in one folder, across folders, to a symlink, to a fifo, in a chain, and fifty to one file."""
    tar = RawTar().directory(b"hardlinks/").directory(b"hardlinks/a/").directory(b"hardlinks/b/")
    tar.entry(b"hardlinks/a/file", pattern(6000), mode=0o640, uid=3, gid=4)
    tar.hardlink(b"hardlinks/a/same-dir", b"hardlinks/a/file").hardlink(b"hardlinks/b/other-dir", b"hardlinks/a/file")
    tar.hardlink(b"hardlinks/b/chain", b"hardlinks/b/other-dir")
    tar.symlink(b"hardlinks/symlink", b"a/file").hardlink(b"hardlinks/to-symlink", b"hardlinks/symlink")
    tar.entry(b"hardlinks/fifo", kind=FIFO).hardlink(b"hardlinks/to-fifo", b"hardlinks/fifo")
    tar.entry(b"hardlinks/empty").hardlink(b"hardlinks/to-empty", b"hardlinks/empty")
    for index in range(50):
        tar.hardlink(b"hardlinks/many-%02d" % index, b"hardlinks/a/file")
    return tar.finish()


def odd_hardlink_with_size():
    """A hard link whose header tells the file's size though no data follows, as some archivers write."""
    return (RawTar().directory(b"hardlink-with-size/").entry(b"hardlink-with-size/file", pattern(900))
            .hardlink(b"hardlink-with-size/link", b"hardlink-with-size/file", size=900)
            .entry(b"hardlink-with-size/next", b"next").finish())


def odd_symlinks():
    """Loops, dangling, absolute, upward, self and empty-looking targets; targets that are not UTF-8."""
    tar = RawTar().directory(b"symlinks/").directory(b"symlinks/dir/").entry(b"symlinks/dir/file", b"1")
    for name, target in ((b"loop-a", b"loop-b"), (b"loop-b", b"loop-a"), (b"self", b"self"), (b"dangling", b"nowhere"),
                         (b"absolute", b"/etc/passwd"), (b"upward", b"../../../../../../etc"), (b"to-dir", b"dir"),
                         (b"to-dir-slash", b"dir/"), (b"dot", b"."), (b"bytes", b"\xff\xfe\n"), (b"root", b"/")):
        tar.symlink(b"symlinks/" + name, target)
    return tar.finish()


def odd_special_files():
    """Character and block devices with large numbers, and a fifo."""
    tar = RawTar().directory(b"special-files/")
    tar.entry(b"special-files/null", kind=CHAR, mode=0o666, dev=(1, 3))
    tar.entry(b"special-files/block", kind=BLOCKDEV, mode=0o660, gid=6, dev=(259, 17))
    tar.entry(b"special-files/large", kind=CHAR, mode=0o600, dev=(4095, 0xFFFFF))
    tar.entry(b"special-files/minor-256", kind=BLOCKDEV, mode=0o600, dev=(8, 256))
    tar.entry(b"special-files/fifo", kind=FIFO, mode=0o622, uid=9)
    return tar.finish()


def odd_modes():
    """setuid, setgid, sticky, no permission at all, and file type bits inside the mode field."""
    tar = RawTar().directory(b"modes/").directory(b"modes/setgid/", mode=0o2755).directory(b"modes/sticky/", mode=0o1777)
    for mode in (0o4755, 0o2755, 0o6711, 0o1644, 0o0, 0o7777, 0o111):
        tar.entry(b"modes/%04o" % mode, b"x", mode=mode, uid=1, gid=2)
    tar.entry(b"modes/with-type-bits", b"x", mode=0o100644).directory(b"modes/none/", mode=0)
    return tar.finish()


def odd_owners():
    """Owners up to 32 bits, by octal, by pax, and with names that disagree with the numbers."""
    tar = RawTar().directory(b"owners/", uid=1000, gid=1001)
    tar.entry(b"owners/nobody", b"x", uid=65534, gid=65534)
    tar.entry(b"owners/octal-max", b"x", uid=8 ** 7 - 1, gid=8 ** 7 - 1)
    tar.entry(b"owners/pax", b"x", pax={b"uid": b"4000000000", b"gid": b"4000000001"})
    tar.entry(b"owners/pax-small", b"x", uid=5, gid=5, pax={b"uid": b"6", b"gid": b"7", b"uname": b"daemon"})
    tar.symlink(b"owners/symlink", b"nobody", uid=11, gid=12)
    return tar.finish()


def odd_times():
    """Times with nanoseconds, with too many digits, at 0, at 2^31 and later, on files, folders and symlinks."""
    tar = RawTar().directory(b"times/", pax={b"mtime": b"1234567890.123456789"})
    for index, text in enumerate((b"0", b"0.999999999", b"1500000000.5", b"1.1234567891234", b"2147483648",
                                  b"4294967296.25", b"1700000000.")):
        tar.entry(b"times/%d" % index, text, pax={b"mtime": text, b"atime": b"1.5", b"ctime": b"2.5"})
    tar.symlink(b"times/symlink", b"0", pax={b"mtime": b"5.25"}).entry(b"times/zero", b"x", mtime=0)
    return tar.finish()


def odd_xattrs():
    """Text, binary, empty and large values; file capabilities of both revisions; on folders and linked files."""
    tar = RawTar()
    tar.directory(b"xattrs/", pax=xattrs({b"user.dir": b"on a folder"}))
    tar.entry(b"xattrs/text", b"x", pax=xattrs({b"user.a": b"1", b"user.b": b"two", b"trusted.c": b"three"}))
    tar.entry(b"xattrs/binary", b"x", pax=xattrs({b"user.binary": bytes(range(256)), b"user.newline": b"a\nb=c\n"}))
    tar.entry(b"xattrs/large", b"x", pax=xattrs({b"user.large": pattern(2000)}))
    tar.entry(b"xattrs/many", b"x", pax=xattrs({b"user.n%02d" % index: b"v%d" % index for index in range(40)}))
    tar.entry(b"xattrs/empty-value", b"x", pax=xattrs({b"user.empty": b""}))
    tar.entry(b"xattrs/capability", b"x", mode=0o755,
              pax=xattrs({b"security.capability": file_capability(CAP_NET_RAW)}))
    tar.entry(b"xattrs/capability-3", b"x", mode=0o755,
              pax=xattrs({b"security.capability": file_capability(CAP_NET_RAW, revision=3, root_id=1000)}))
    tar.entry(b"xattrs/linked", b"x", pax=xattrs({b"user.linked": b"yes"})).hardlink(b"xattrs/link", b"xattrs/linked")
    return tar.finish()


def odd_sizes():
    """Files of sizes around 512, 4096 and 65536, one after another."""
    tar = RawTar().directory(b"sizes/")
    for size in (0, 1, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 65535, 65536, 65537,
                 131071, 131072, 131073, 1048575, 1048576, 1048577):
        tar.entry(b"sizes/%d" % size, pattern(size, size))
    return tar.finish()


def odd_zeros():
    """Files of zeros, and data between zeros: they compress to almost nothing, and must still be read right."""
    return (RawTar().directory(b"zeros/").entry(b"zeros/all", b"\0" * 3000000)
            .entry(b"zeros/middle", b"\0" * 1000000 + pattern(100) + b"\0" * 1000000).entry(b"zeros/one", b"\0").finish())


def odd_shared_content():
    """The same content under several names, not linked."""
    tar = RawTar().directory(b"shared-content/")
    for index in range(5):
        tar.entry(b"shared-content/%d" % index, pattern(50000))
    return tar.finish()
