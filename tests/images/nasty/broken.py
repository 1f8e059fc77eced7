"""Layers that must be refused, with an error and not with a wrong result. Named after what is wrong."""

from images.nasty.oddity import pattern
from images.nasty.raw_tar import RawTar, base256, gnu_sparse_header, header


def odd_bad_checksum():
    """A header whose checksum is wrong."""
    return RawTar().entry(b"bad-checksum", b"1", checksum=lambda total: b"%06o\0 " % (total + 1)).finish()


def odd_truncated_header():
    """The archive ends inside a header."""
    return RawTar().entry(b"first", b"1").finish()[:1024] + header(b"second", b"0", 0o644)[:200]


def odd_truncated_data():
    """The archive ends inside a file's data."""
    return RawTar().entry(b"file", pattern(10000)).finish()[:5000]


def odd_negative_size():
    """A binary size below zero."""
    return RawTar().entry(b"file", b"", size=base256(-1, 12)).finish()


def odd_enormous_size():
    """A size near 2^63, with no data."""
    return RawTar().entry(b"file", b"", size=base256((1 << 63) - 1, 12)).finish()


def odd_octal_garbage():
    """Letters in a number."""
    return RawTar().entry(b"file", b"", size=b"12x4567\0\0\0\0\0").finish()


def odd_pax_length():
    """A pax record whose length points past the header's end."""
    raw = RawTar().block(header(b"pax", b"x", 0o644, size=20)).data(b"999999 path=x\n\0\0\0\0\0\0")
    return raw.entry(b"file", b"1").finish()


def odd_pax_huge_header():
    """A pax header that claims four gigabytes."""
    return RawTar().block(header(b"pax", b"x", 0o644, size=(1 << 32) - 1)).data(b"12 path=x\n").finish()


def odd_sparse_overlap():
    """Sparse pieces that overlap and run backwards."""
    raw = gnu_sparse_header(b"file", [(4096, 512), (0, 512), (100, 512)], 8192)
    return RawTar().block(raw).data(pattern(1536)).finish()


def odd_sparse_past_end():
    """A sparse piece behind the real size."""
    return RawTar().block(gnu_sparse_header(b"file", [(1 << 40, 512)], 8192)).data(pattern(512)).finish()


def odd_sparse_overflow():
    """A sparse offset that overflows when its length is added."""
    return RawTar().block(gnu_sparse_header(b"file", [((1 << 63) - 10, 512)], (1 << 63) - 1)).data(pattern(512)).finish()


def odd_hardlink_loop():
    """Two hard links to one another, and one to itself."""
    return RawTar().hardlink(b"a", b"b").hardlink(b"b", b"a").hardlink(b"self", b"self").finish()


def odd_not_a_tar():
    """Bytes that are no tar at all."""
    return pattern(10240)
