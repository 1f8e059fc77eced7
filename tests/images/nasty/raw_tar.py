"""Writes tar archives header by header, so that nothing is tidied up on the way.

Formats: POSIX.1-2017 pax (ustar, extended headers); GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

BLOCK = 512
MTIME = 1700000000

USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"
V7 = b"\0" * 8

FILE, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


class RawTar:
    """A growing archive. entry() pads to blocks; finish() adds the two zero blocks."""

    def __init__(self):
        self._out = bytearray()

    def entry(self, name, data=b"", kind=FILE, mode=0o644, pax=None, **fields):
        """One member. name and link: bytes, at most 100 unless `prefix` or a long-name header serves. fields: header()"""
        if pax:
            self.pax(pax)
        self.block(header(name, kind, mode, size=fields.pop("size", len(data)), **fields))
        self.data(data)
        return self

    def directory(self, name, mode=0o755, **fields):
        return self.entry(name, kind=DIRECTORY, mode=mode, **fields)

    def symlink(self, name, target, **fields):
        return self.entry(name, kind=SYMLINK, mode=0o777, link=target, **fields)

    def hardlink(self, name, target, **fields):
        return self.entry(name, kind=HARDLINK, link=target, **fields)

    def pax(self, records, kind=b"x"):
        """An extended header. records: dict, or list of (key, value) where keys repeat; keys and values are bytes."""
        pairs = records.items() if isinstance(records, dict) else records
        data = b"".join(pax_record(key, value) for key, value in pairs)
        self.block(header(b"PaxHeaders/x" if kind == b"x" else b"pax_global_header", kind, 0o644, size=len(data)))
        self.data(data)
        return self

    def gnu_long(self, value, kind=b"L"):
        """GNU's long name (L) or long link target (K), for the next entry."""
        data = value + b"\0"
        self.block(header(b"././@LongLink", kind, 0, size=len(data), magic=GNU, mtime=0))
        self.data(data)
        return self

    def block(self, raw):
        self._out += raw
        return self

    def data(self, data):
        self._out += data + b"\0" * (-len(data) % BLOCK)
        return self

    def finish(self, zero_blocks=2, trailer=b""):
        """The archive's bytes."""
        return bytes(self._out) + b"\0" * (BLOCK * zero_blocks) + trailer


def header(name, kind, mode, size=0, uid=0, gid=0, mtime=MTIME, link=b"", dev=(0, 0), magic=USTAR, prefix=b"",
           owner=(b"", b""), tail=None, checksum=None):
    """One 512-byte header. Numbers that do not fit in octal become base-256. tail: replaces bytes 345..512."""
    if len(name) > 100 or len(link) > 100 or len(prefix) > 155:
        raise ValueError(f"does not fit a header: {name!r}")
    raw = bytearray(BLOCK)

    def put(offset, value):
        raw[offset:offset + len(value)] = value
    put(0, name)
    put(100, number(mode, 8))
    put(108, number(uid, 8))
    put(116, number(gid, 8))
    put(124, number(size, 12))
    put(136, number(mtime, 12))
    put(156, kind)
    put(157, link)
    put(257, magic)
    if magic != V7:
        put(265, owner[0])
        put(297, owner[1])
        put(329, number(dev[0], 8))
        put(337, number(dev[1], 8))
        put(345, prefix)
    if tail is not None:
        put(345, tail)
    put(148, b" " * 8)
    put(148, checksum(sum(raw)) if checksum else b"%06o\0 " % sum(raw))
    return bytes(raw)


def number(value, width):
    """A numeric field: octal with a NUL where it fits, base-256 otherwise. A bytes value is taken as it is."""
    if isinstance(value, bytes):
        return value
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return base256(value, width)


def base256(value, width):
    """GNU's binary number: two's complement, big-endian, with the top bit set as the mark."""
    raw = bytearray(value.to_bytes(width, "big", signed=True))
    raw[0] |= 0x80
    return bytes(raw)


def pax_record(key, value):
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts itself."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def gnu_sparse_header(name, pieces, real_size, **fields):
    """Old GNU sparse file: header and extension blocks. pieces: [(offset, length)] of the data that follows."""
    def slots(part):
        return b"".join(number(offset, 12) + number(length, 12) for offset, length in part)
    rest = pieces[4:]
    # Offsets in the header, less 345: four slots at 386, isextended at 482, realsize at 483.
    tail = b"\0" * 41 + slots(pieces[:4]).ljust(96, b"\0") + (b"\1" if rest else b"\0") + number(real_size, 12)
    raw = header(name, b"S", 0o644, size=sum(length for _, length in pieces), magic=GNU, tail=tail, **fields)
    while rest:
        part, rest = rest[:21], rest[21:]
        raw += (slots(part).ljust(504, b"\0") + (b"\1" if rest else b"\0")).ljust(BLOCK, b"\0")
    return raw
