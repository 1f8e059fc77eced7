"""Oddities of names, headers and archives. Each function returns one tar, or a tuple of tars."""

from images.nasty.oddity import pattern
from images.nasty.raw_tar import DIRECTORY, GNU, V7, RawTar, base256

COMPONENT_MAX = 255


def odd_name_bytes():
    """Names with spaces, newlines, tabs, quotes, backslashes, dashes and dots."""
    tar = RawTar().directory(b"name-bytes/")
    for name in (b"with space", b"trailing ", b" leading", b"new\nline", b"tab\there", b"-rf", b"quote\"'`", b"back\\slash",
                 b"...", b"..hidden", b"#comment", b"a=b", b"*?[x]", b"\x01\x7f", b"%s%n", b"con:aux"):
        tar.entry(b"name-bytes/" + name, name)
    return tar.finish()


def odd_invalid_utf8():
    """Names that are not UTF-8, plain and in pax records, and one name in two Unicode normal forms."""
    tar = RawTar().directory(b"invalid-utf8/")
    for name in (b"bad\xff\xfe", b"latin\xe9", b"overlong\xc0\xaf", b"surrogate\xed\xa0\x80", b"cut\xe2\x82",
                 b"nfc\xc3\xa9", b"nfde\xcc\x81", b"snowman\xe2\x98\x83"):
        tar.entry(b"invalid-utf8/" + name, name)
    path = b"invalid-utf8/pax\xff" + b"x" * 120
    tar.entry(b"short", b"by pax", pax={b"path": path})
    tar.entry(b"short", b"by pax with hdrcharset", pax=[(b"hdrcharset", b"BINARY"), (b"path", path + b"2")])
    return tar.finish()


def odd_component_255():
    """Components of exactly 255 bytes."""
    tar = RawTar().directory(b"component-255/")
    folder = b"component-255/" + b"d" * COMPONENT_MAX
    tar.gnu_long(folder + b"/").directory(folder[:99] + b"/", magic=GNU)
    tar.entry(b"x", b"1", pax={b"path": folder + b"/" + b"f" * COMPONENT_MAX})
    return tar.finish()


def odd_ustar_prefix():
    """Names split into prefix and name: 100 and 155 bytes exactly, and no NUL at either end."""
    middle = b"ustar-prefix/" + b"p" * 71
    folder = middle + b"/" + b"q" * 70  # 155 bytes
    tar = RawTar().directory(b"ustar-prefix/").directory(b"p" * 71, prefix=b"ustar-prefix")
    tar.directory(b"q" * 70, prefix=middle)
    tar.entry(b"n" * 100, b"full", prefix=folder)
    tar.entry(b"s", b"short", prefix=folder)
    tar.directory(b"sub/", prefix=folder)
    tar.entry(b"sub/" + b"x" * 96, b"deep", prefix=folder)
    return tar.finish()


def odd_gnu_long():
    """GNU long names and long link targets, both at once, and a name of exactly 100 bytes."""
    top = b"gnu-long/" + b"a" * 90 + b"/" + b"b" * 200
    tar = RawTar().directory(b"gnu-long/", magic=GNU)
    tar.gnu_long(top + b"/").directory(top[:100], magic=GNU)
    tar.gnu_long(top + b"/file").entry(top[:100], b"long", magic=GNU)
    tar.gnu_long(top + b"/file", b"K").gnu_long(top + b"/link").hardlink(top[:100], top[:100], magic=GNU)
    tar.gnu_long(b"../" * 50 + b"etc/passwd", b"K").symlink(b"gnu-long/symlink", b"../" * 33, magic=GNU)
    tar.entry(b"gnu-long/" + b"c" * 91, b"hundred", magic=GNU)
    return tar.finish()


def odd_pax_long():
    """Paths of 1500 bytes by pax records, with long link targets, and a path record that overrides the header."""
    deep = b"pax-long/" + b"/".join([b"d" * 99] * 14)
    tar = RawTar().directory(b"pax-long/")
    for depth in range(1, 15):
        path = b"pax-long/" + b"/".join([b"d" * 99] * depth) + b"/"
        tar.entry(b"d/", kind=DIRECTORY, mode=0o755, pax={b"path": path})
    tar.entry(b"f", b"deep", pax={b"path": deep + b"/file"})
    tar.hardlink(b"pax-long/hardlink", b"f", pax={b"linkpath": deep + b"/file"})
    tar.symlink(b"pax-long/symlink", b"x", pax={b"linkpath": deep + b"/file"})
    tar.entry(b"pax-long/wrong-name", b"x", pax={b"path": b"pax-long/right-name"})
    return tar.finish()


def odd_long_symlink():
    """Symlink targets of 101, 1000 and 4000 bytes."""
    tar = RawTar().directory(b"long-symlink/")
    for size in (101, 1000, 4000):
        target = (b"t" * 99 + b"/") * (size // 100) + b"t" * (size % 100)
        tar.symlink(b"long-symlink/to-%d" % size, b"x", pax={b"linkpath": target})
    return tar.finish()


def odd_pax_size():
    """A size that only the pax record tells; the header's field says 0."""
    data = pattern(5000)
    return (RawTar().directory(b"pax-size/").pax({b"size": b"5000"})
            .entry(b"pax-size/file", data, size=0).entry(b"pax-size/next", b"next").finish())


def odd_base256():
    """Binary numbers in size, owner and time fields."""
    tar = RawTar().directory(b"base256/")
    tar.entry(b"base256/size", pattern(700), size=base256(700, 12), magic=GNU)
    tar.entry(b"base256/owner", b"x", uid=3000000000, gid=2500000000, magic=GNU)
    tar.entry(b"base256/future", b"x", mtime=8 ** 11 + 5, magic=GNU)
    return tar.finish()


def odd_global_header():
    """A pax global header, twice, and an unknown key in an extended one."""
    return (RawTar().pax({b"comment": b"0123456789abcdef"}, kind=b"g").directory(b"global-header/")
            .pax({b"comment": b"again"}, kind=b"g").entry(b"global-header/file", b"1")
            .entry(b"global-header/other", b"2", pax={b"VENDOR.key": b"value", b"comment": b"new\nline"}).finish())


def odd_header_styles():
    """v7, GNU and star headers; numbers with spaces instead of zeros and NULs; checksums in three spellings."""
    tar = RawTar().directory(b"header-styles/", magic=V7)
    tar.entry(b"header-styles/v7", b"v7", kind=b"\0", magic=V7)
    tar.entry(b"header-styles/v7-dir/", kind=b"\0", mode=0o755, magic=V7)
    tar.entry(b"header-styles/gnu", b"gnu", magic=GNU, owner=(b"root", b"root"))
    tar.entry(b"header-styles/star", b"star", tail=b"\0" * 163 + b"tar\0")
    tar.entry(b"header-styles/spaces", b"spaces", mode=b"   644 \0", uid=b"     0 \0", size=b"          6 ")
    tar.entry(b"header-styles/sum-nul", b"1", checksum=lambda total: b"%06o\0\0" % total)
    tar.entry(b"header-styles/sum-space", b"2", checksum=lambda total: b"%07o " % total)
    tar.entry(b"header-styles/named-owner", b"3", uid=33, gid=33, owner=(b"root", b"root"))
    return tar.finish()


def odd_dot_slash():
    """`./` before every name, and an entry for the root itself."""
    return (RawTar().directory(b"./").directory(b"./dot-slash/").entry(b"./dot-slash/file", b"1")
            .hardlink(b"./dot-slash/link", b"./dot-slash/file").finish())


def odd_absolute():
    """Absolute names, doubled slashes and inner dots."""
    return (RawTar().directory(b"/absolute/").entry(b"/absolute/file", b"1").directory(b"absolute//double/")
            .entry(b"absolute/./double///f", b"2").entry(b"absolute/double/../up", b"3").finish())


def odd_implied_parents():
    """Files whose directories have no entries, and a directory whose own entry comes after its files."""
    return (RawTar().entry(b"implied-parents/a/b/c/file", b"1").entry(b"implied-parents/late/file", b"2")
            .directory(b"implied-parents/late/", mode=0o2750, uid=7, gid=8).finish())


def odd_duplicates():
    """One name several times in one layer: the last entry counts, whatever its type."""
    tar = RawTar().directory(b"duplicates/")
    tar.entry(b"duplicates/file", b"first").entry(b"duplicates/file", b"second one")
    tar.entry(b"duplicates/becomes-dir", b"x").directory(b"duplicates/becomes-dir/")
    tar.entry(b"duplicates/becomes-dir/inner", b"y")
    tar.directory(b"duplicates/becomes-file/").entry(b"duplicates/becomes-file/inner", b"z")
    tar.entry(b"duplicates/becomes-file", b"now a file")
    tar.symlink(b"duplicates/was-link", b"file").entry(b"duplicates/was-link", b"not through the link")
    tar.directory(b"duplicates/dir/", mode=0o700).entry(b"duplicates/dir/kept", b"k")
    tar.directory(b"duplicates/dir/", mode=0o751)
    return tar.finish()


def odd_trailing_garbage():
    """Bytes after the end of the archive: they count for the diffID, and for nothing else."""
    return (RawTar().directory(b"trailing-garbage/").entry(b"trailing-garbage/file", b"1")
            .finish(trailer=b"\0" * 8192 + pattern(3000, 5)))


def odd_padded_record():
    """Zeros up to a record of 20 blocks, as GNU tar writes."""
    tar = RawTar().directory(b"padded-record/").entry(b"padded-record/file", b"1").finish()
    return tar + b"\0" * (-len(tar) % 10240)


def odd_no_end():
    """Three layers that end with no zero block, with one, and with an odd number of them."""
    return tuple(RawTar().directory(b"no-end/").entry(b"no-end/%d" % blocks, b"x" * blocks).finish(zero_blocks=blocks)
                 for blocks in (0, 1, 7))


def odd_empty_layer():
    """Layers with nothing in them."""
    return RawTar().finish(), b"\0" * 10240


def odd_thousand_files():
    """Many small files in one folder, out of order."""
    tar = RawTar().directory(b"thousand-files/")
    for index in range(1000):
        tar.entry(b"thousand-files/%d" % (index * 617 % 1000), b"%d\n" % index)
    return tar.finish()
