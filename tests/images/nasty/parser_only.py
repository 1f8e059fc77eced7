"""Oddities that an ordinary pull refuses, reads otherwise, or pays too dearly for: for converter tests only."""

from images.nasty.layers import small_tree
from images.nasty.metadata import xattrs
from images.nasty.oddity import pattern
from images.nasty.raw_tar import CHAR, GNU, RawTar, gnu_sparse_header, header
from images.nasty.sparse import PIECES, REAL_SIZE, sparse_tar

GIB = 1 << 30
# A few real bytes at both sides of 2^32 and at the end.
_HUGE = [(0, 512), (4 * GIB - 100, 512), (6 * GIB + 3, 1024), (8 * GIB - 1, 1)]


def odd_sparse_gnu():
    """Old GNU sparse files, with extension blocks; containerd refuses their type."""
    return sparse_tar("gnu", b"sparse-gnu")


def odd_huge_sparse_gnu():
    """An 8 GiB sparse file, old GNU format. (A plain pull would write 8 GiB of zeros.)"""
    return sparse_tar("gnu", b"huge-sparse-gnu", 8 * GIB, _HUGE)


def odd_huge_sparse_pax_00():
    """An 8 GiB sparse file, pax 0.0."""
    return sparse_tar("pax-0.0", b"huge-sparse-pax-00", 8 * GIB, _HUGE)


def odd_huge_sparse_pax_01():
    """An 8 GiB sparse file, pax 0.1."""
    return sparse_tar("pax-0.1", b"huge-sparse-pax-01", 8 * GIB, _HUGE)


def odd_huge_sparse_pax_10():
    """An 8 GiB sparse file, pax 1.0."""
    return sparse_tar("pax-1.0", b"huge-sparse-pax-10", 8 * GIB, _HUGE)


def odd_sparse_owner_and_times():
    """A sparse file with owner, pax time and extended attributes."""
    tar = RawTar().directory(b"sparse-owner/").pax({b"mtime": b"1500000000.5", **xattrs({b"user.s": b"1"})})
    pieces = [(4096, 10), (9000, 0)]
    tar.block(gnu_sparse_header(b"sparse-owner/file", pieces, 9000, uid=77, gid=78)).data(pattern(10))
    return tar.finish()


def odd_sparse_no_last_piece():
    """A hole at the end that only the real size tells of. (GNU tar cuts the file; Go's reader fills it.)"""
    return sparse_tar("pax-1.0", b"sparse-no-last-piece", REAL_SIZE, PIECES[:-1])


def odd_times_before_1970():
    """Times below zero, by pax and by base-256. (containerd sets all of them to 0.)"""
    tar = RawTar().directory(b"before-1970/", pax={b"mtime": b"-1.5"})
    for index, text in enumerate((b"-1.5", b"-0.000000001", b"-2147483648", b"-1000000000.999999999")):
        tar.entry(b"before-1970/%d" % index, text, pax={b"mtime": text})
    tar.symlink(b"before-1970/symlink", b"0", pax={b"mtime": b"-5.25"})
    return tar.entry(b"before-1970/base256", b"x", mtime=-1000000000, magic=GNU).finish()


def odd_contiguous_type():
    """Type '7', a contiguous file: POSIX reads it as a regular one."""
    return RawTar().directory(b"contiguous/").entry(b"contiguous/file", b"7", kind=b"7").finish()


def odd_unknown_type():
    """Types that nobody knows: POSIX reads 'A'..'Z' as vendors' own, anything else as a regular file."""
    return (RawTar().directory(b"unknown-type/").entry(b"unknown-type/vendor", b"skip me", kind=b"Z")
            .entry(b"unknown-type/volume", b"", kind=b"V").entry(b"unknown-type/next", b"next").finish())


def odd_hardlink_to_lower_layer():
    """A hard link whose target is in the layer below."""
    return (RawTar().directory(b"link-below/").entry(b"link-below/file", b"below").finish(),
            RawTar().hardlink(b"link-below/link", b"link-below/file").finish())


def odd_hardlink_before_target():
    """A hard link that comes before its target."""
    return (RawTar().directory(b"link-early/").hardlink(b"link-early/link", b"link-early/file")
            .entry(b"link-early/file", b"late").finish())


def odd_hardlink_with_data():
    """A hard link with the file's data after it, as pax allows."""
    data = pattern(700)
    return (RawTar().directory(b"link-data/").entry(b"link-data/file", data)
            .entry(b"link-data/link", data, kind=b"1", link=b"link-data/file").entry(b"link-data/next", b"n").finish())


def odd_upward_names():
    """Names that climb out of the root; they must stay inside it or be refused."""
    return (RawTar().directory(b"upward/").entry(b"../../escaped", b"1").entry(b"upward/../../../escaped2", b"2")
            .hardlink(b"upward/link", b"../../../etc/passwd").finish())


def odd_through_own_symlink():
    """A symlink out of the folder, and an entry through it, in one layer."""
    return (RawTar().directory(b"through/").symlink(b"through/out", b"/etc").entry(b"through/out/planted", b"x").finish())


def odd_whiteout_device():
    """A character device 0:0: overlayfs takes it for a whiteout."""
    return (RawTar().directory(b"whiteout-device/").entry(b"whiteout-device/file", b"below").finish(),
            RawTar().entry(b"whiteout-device/file", kind=CHAR, mode=0o600, dev=(0, 0)).finish())


def odd_overlay_xattrs():
    """Attributes that overlayfs would obey."""
    tar = RawTar().directory(b"overlay-xattrs/", pax=xattrs({b"trusted.overlay.opaque": b"y"}))
    tar.entry(b"overlay-xattrs/redirect", b"x", pax=xattrs({b"trusted.overlay.redirect": b"/etc"}))
    tar.entry(b"overlay-xattrs/user", b"x", pax=xattrs({b"user.overlay.metacopy": b""}))
    return tar.finish()


def odd_whiteout_then_new_folder():
    """A folder is removed and made anew in one layer: only its new entries remain. (containerd shows the old ones.)"""
    top = b"whiteout-then-new-folder"
    upper = RawTar().entry(top + b"/.wh.dir").directory(top + b"/dir/", mode=0o700).entry(top + b"/dir/only", b"new")
    return small_tree(top).finish(), upper.finish()


def odd_whiteout_after_new():
    """A name is made and then removed in one layer, in this order."""
    return (RawTar().directory(b"whiteout-after/").entry(b"whiteout-after/a", b"below").finish(),
            RawTar().entry(b"whiteout-after/a", b"above").entry(b"whiteout-after/.wh.a").finish())


def odd_strange_whiteouts():
    """`.wh.` with nothing after it, `.wh..` and `.wh...`, aufs's own files, and a whiteout that is a folder."""
    top = b"strange-whiteouts/"
    tar = RawTar().directory(top)
    for name in (b".wh.", b".wh..", b".wh...", b".wh..wh.", b".wh..wh.plnk", b".wh..wh.aufs"):
        tar.entry(top + name)
    return tar.directory(top + b".wh.folder/").finish()


def odd_root_whiteouts():
    """The root folder itself is opaque."""
    return RawTar().directory(b"root-whiteouts/").finish(), RawTar().entry(b".wh..wh..opq").entry(b"left", b"x").finish()


def odd_very_deep():
    """Three thousand folders in one another: longer than PATH_MAX."""
    tar = RawTar()
    tar.entry(b"x", b"deep", pax={b"path": b"very-deep/" + b"d/" * 3000 + b"file"})
    return tar.finish()


def odd_component_too_long():
    """A component of 256 bytes, which no Linux filesystem holds."""
    return RawTar().entry(b"x", b"1", pax={b"path": b"component-too-long/" + b"c" * 256}).finish()


def odd_pax_oddities():
    """Empty values, repeated keys, a NUL in a value, and two extended headers before one entry."""
    tar = RawTar().directory(b"pax-oddities/")
    tar.pax([(b"path", b"pax-oddities/first"), (b"path", b"pax-oddities/last-counts")]).entry(b"x", b"1")
    tar.pax({b"path": b""}).entry(b"pax-oddities/empty-path-record", b"2")
    tar.pax({b"comment": b"a\0b"}).entry(b"pax-oddities/nul-in-comment", b"3")
    tar.pax({b"uid": b"7"}).pax({b"gid": b"8"}).entry(b"pax-oddities/two-headers", b"4")
    return tar.finish()


def odd_global_overrides():
    """A global header that sets owner and time for all that follows."""
    return (RawTar().pax({b"uid": b"55", b"mtime": b"5"}, kind=b"g").directory(b"global-overrides/")
            .entry(b"global-overrides/file", b"1").pax({b"uid": b"66"}, kind=b"g")
            .entry(b"global-overrides/later", b"2").finish())


def odd_signed_checksum():
    """A checksum summed over signed bytes, as some old tars did."""
    name = b"signed-checksum-\xff\xff"
    raw = header(name, b"0", 0o644, size=1, checksum=lambda total: b"%06o\0 " % (total - 2 * 256))
    return RawTar().block(raw).data(b"1").finish()
