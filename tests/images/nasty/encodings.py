"""The ways in which a layer's tar is compressed in the wild. Formats: RFC 1951, RFC 1952, RFC 8878."""

import struct
import subprocess
import zlib

from images.oci_layout import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

FTEXT, FHCRC, FEXTRA, FNAME, FCOMMENT = 1, 2, 4, 8, 16
PIECE = 70000


def plain(tar):
    return tar


def member(data, level=6, strategy=zlib.Z_DEFAULT_STRATEGY, head=None, flushes=()):
    """One gzip member. flushes: zlib flush modes, applied in turn after every PIECE bytes."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    body = b""
    for index, start in enumerate(range(0, len(data), PIECE) if flushes else ()):
        body += packer.compress(data[start:start + PIECE]) + packer.flush(flushes[index % len(flushes)])
    body += (b"" if flushes else packer.compress(data)) + packer.flush()
    return (head or gzip_head()) + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def gzip_head(flags=0, fields=b""):
    """A gzip header; with FHCRC its checksum is added."""
    raw = b"\x1f\x8b\x08" + bytes([flags]) + struct.pack("<I", 0) + b"\x00\xff" + fields
    return raw + struct.pack("<H", zlib.crc32(raw) & 0xFFFF) if flags & FHCRC else raw


def gzip_members(tar):
    """Several members, one of them empty and one very short."""
    cuts = [0, len(tar) // 3, len(tar) // 3, len(tar) // 3 + 1, len(tar)]
    return b"".join(member(tar[start:end]) for start, end in zip(cuts, cuts[1:]))


def gzip_header_fields(tar):
    extra = b"PG\x04\x00\x1f\x8b\x08\x00"  # a subfield that looks like a gzip header
    return member(tar, head=gzip_head(FTEXT | FEXTRA | FNAME | FCOMMENT,
                                      struct.pack("<H", len(extra)) + extra + b"layer.tar\0" + b"a comment\0"))


def gzip_header_crc(tar):
    return member(tar, head=gzip_head(FHCRC | FNAME, b"layer.tar\0"))


def by_command(*argv):
    """An encoder that is a program reading standard input."""
    def encode(tar):
        return subprocess.run(argv, input=tar, stdout=subprocess.PIPE, check=True).stdout
    return encode


def zstd_frames(tar):
    """Several frames with a skippable one between, as seekable formats write."""
    encode = by_command("zstd", "-q", "-3", "-c")
    skippable = struct.pack("<II", 0x184D2A5E, 7) + b"skipped"
    return encode(tar[:len(tar) // 2]) + skippable + encode(tar[len(tar) // 2:])


ACCEPTED = {
    "tar": (OCI_LAYER, plain),
    "gzip": (OCI_LAYER_GZIP, member),
    "gzip-1": (OCI_LAYER_GZIP, lambda tar: member(tar, 1)),
    "gzip-9": (OCI_LAYER_GZIP, lambda tar: member(tar, 9)),
    "gzip-stored": (OCI_LAYER_GZIP, lambda tar: member(tar, 0)),
    "gzip-fixed-codes": (OCI_LAYER_GZIP, lambda tar: member(tar, 6, zlib.Z_FIXED)),
    "gzip-huffman-only": (OCI_LAYER_GZIP, lambda tar: member(tar, 6, zlib.Z_HUFFMAN_ONLY)),
    "gzip-rle": (OCI_LAYER_GZIP, lambda tar: member(tar, 6, zlib.Z_RLE)),
    "gzip-flushed": (OCI_LAYER_GZIP, lambda tar: member(
        tar, flushes=(zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH))),
    "gzip-members": (OCI_LAYER_GZIP, gzip_members),
    "gzip-header-fields": (OCI_LAYER_GZIP, gzip_header_fields),
    "gzip-header-crc": (OCI_LAYER_GZIP, gzip_header_crc),
    "pigz": (OCI_LAYER_GZIP, by_command("pigz", "-n", "-p2", "-c")),
    "pigz-rsyncable": (OCI_LAYER_GZIP, by_command("pigz", "-n", "-p2", "-R", "-c")),
    "pigz-independent": (OCI_LAYER_GZIP, by_command("pigz", "-n", "-p2", "-i", "-b", "128", "-c")),
    "zstd": (OCI_LAYER_ZSTD, by_command("zstd", "-q", "-3", "-c")),
    "zstd-19": (OCI_LAYER_ZSTD, by_command("zstd", "-q", "-19", "-c")),
    "zstd-frames": (OCI_LAYER_ZSTD, zstd_frames),
}

# Whether an ordinary pull takes these depends on which decompressor it finds on the machine.
PARSER_ONLY = {
    "gzip-zero-padding": (OCI_LAYER_GZIP, lambda tar: member(tar) + b"\0" * 1000),
    "gzip-trailing-garbage": (OCI_LAYER_GZIP, lambda tar: member(tar) + b"garbage"),
}

BROKEN = {
    "gzip-bad-crc": (OCI_LAYER_GZIP, lambda tar: _spoil(member(tar), -8)),
    "gzip-bad-length": (OCI_LAYER_GZIP, lambda tar: _spoil(member(tar), -4)),
    "gzip-truncated": (OCI_LAYER_GZIP, lambda tar: member(tar)[:-2000]),
    "gzip-no-trailer": (OCI_LAYER_GZIP, lambda tar: member(tar)[:-8]),
    "gzip-bad-block-type": (OCI_LAYER_GZIP, lambda tar: gzip_head() + b"\x07" + member(tar)[11:]),
    "gzip-header-only": (OCI_LAYER_GZIP, lambda tar: gzip_head()),
    "zstd-truncated": (OCI_LAYER_ZSTD, lambda tar: by_command("zstd", "-q", "-3", "-c")(tar)[:-100]),
    "plain-as-gzip": (OCI_LAYER_GZIP, plain),
}


def _spoil(data, index):
    spoiled = bytearray(data)
    spoiled[index] ^= 0x01
    return bytes(spoiled)
