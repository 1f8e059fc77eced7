"""Sparse files in every format that tar has for them; small enough that a plain pull may write them out.

containerd does not take the old GNU format (type S), so that one is for converter tests only: parser_only.py.
"""

from images.nasty.oddity import pattern
from images.nasty.raw_tar import RawTar, gnu_sparse_header

MIB = 1 << 20
REAL_SIZE = 24 * MIB + 123
# (offset, length). All lengths but the last are whole blocks: readers disagree on how shorter ones are stored. The
# empty piece at the end tells GNU tar that a hole follows; others go by the real size.
PIECES = [(0, 512), (5 * MIB, 4096), (9 * MIB + 77, 3072), (20 * MIB, 513), (REAL_SIZE, 0)]


def data_of(pieces):
    return b"".join(pattern(length, index) for index, (_, length) in enumerate(pieces))


def many_pieces(count, step):
    return [(index * step, 512) for index in range(count)]


def gnu(tar, name, pieces, real_size, **fields):
    """Old GNU format: type S, map in the header and in blocks after it."""
    return tar.block(gnu_sparse_header(name, pieces, real_size, **fields)).data(data_of(pieces))


def pax00(tar, name, pieces, real_size):
    """pax 0.0: repeated offset and numbytes records."""
    records = [(b"GNU.sparse.size", b"%d" % real_size), (b"GNU.sparse.numblocks", b"%d" % len(pieces))]
    for offset, length in pieces:
        records += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    return tar.pax(records).entry(name, data_of(pieces))


def pax01(tar, name, pieces, real_size):
    """pax 0.1: one map record, and the true name in a record."""
    sparse_map = b",".join(b"%d,%d" % piece for piece in pieces)
    records = [(b"GNU.sparse.size", b"%d" % real_size), (b"GNU.sparse.numblocks", b"%d" % len(pieces)),
               (b"GNU.sparse.map", sparse_map), (b"GNU.sparse.name", name)]
    return tar.pax(records).entry(b"GNUSparseFile.1/x", data_of(pieces))


def pax10(tar, name, pieces, real_size):
    """pax 1.0: the map stands before the data, padded to a block."""
    text = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces)
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": name,
               b"GNU.sparse.realsize": b"%d" % real_size}
    return tar.pax(records).entry(b"GNUSparseFile.1/x", text + b"\0" * (-len(text) % 512) + data_of(pieces))


FORMATS = {"gnu": gnu, "pax-0.0": pax00, "pax-0.1": pax01, "pax-1.0": pax10}


def sparse_tar(format_name, top, real_size=REAL_SIZE, pieces=None):
    """A tar with sparse files of one format: some pieces, a hundred pieces, only a hole, and one with no hole."""
    add = FORMATS[format_name]
    tar = RawTar().directory(top + b"/")
    add(tar, top + b"/some", pieces or PIECES, real_size)
    add(tar, top + b"/hundred", many_pieces(100, 5000), 99 * 5000 + 512)
    add(tar, top + b"/hole", [(MIB, 0)], MIB)
    add(tar, top + b"/dense", [(0, 10000)], 10000)
    add(tar, top + b"/at-end", [(2 * MIB - 5, 5)], 2 * MIB)
    return tar.entry(top + b"/next", b"next").finish()


def odd_sparse_pax_00():
    """pax sparse files, format 0.0."""
    return sparse_tar("pax-0.0", b"sparse-pax-00")


def odd_sparse_pax_01():
    """pax sparse files, format 0.1."""
    return sparse_tar("pax-0.1", b"sparse-pax-01")


def odd_sparse_pax_10():
    """pax sparse files, format 1.0."""
    return sparse_tar("pax-1.0", b"sparse-pax-10")
