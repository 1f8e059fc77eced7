"""Oddities between layers: whiteouts, opaque folders, and entries that change their type."""

from images.nasty.metadata import xattrs
from images.nasty.oddity import pattern
from images.nasty.raw_tar import RawTar


def small_tree(top):
    """A small folder tree to remove things from."""
    tar = RawTar().directory(top + b"/").directory(top + b"/dir/").directory(top + b"/dir/sub/")
    for name in (b"a", b"b", b"dir/a", b"dir/b", b"dir/sub/a", b"dir/sub/b"):
        tar.entry(top + b"/" + name, name)
    return tar


def odd_whiteouts():
    """A file, a folder with everything in it, a symlink, and something that was never there are removed."""
    top = b"whiteouts"
    upper = RawTar().entry(top + b"/.wh.a").entry(top + b"/dir/.wh.sub").entry(top + b"/.wh.symlink")
    upper.entry(top + b"/.wh.never-there").entry(top + b"/.wh.bytes\xff")
    lower = small_tree(top).symlink(top + b"/symlink", b"b").entry(top + b"/bytes\xff", b"x")
    return lower.finish(), upper.finish()


def odd_whiteout_then_new():
    """A name is removed and made anew in the same layer, with the whiteout first; also as another type."""
    top = b"whiteout-then-new"
    upper = RawTar().entry(top + b"/.wh.a").entry(top + b"/a", b"new a")
    upper.entry(top + b"/dir/.wh.a").symlink(top + b"/dir/a", b"b").entry(top + b"/.wh.b")
    upper.directory(top + b"/b/").entry(top + b"/b/inner", b"file became folder")
    return small_tree(top).finish(), upper.finish()


def odd_opaque():
    """Opaque folders: marked before their new entries, and after them."""
    top = b"opaque"
    upper = RawTar().directory(top + b"/dir/").entry(top + b"/dir/.wh..wh..opq").entry(top + b"/dir/new", b"n")
    upper.directory(top + b"/after/").entry(top + b"/after/new", b"n").entry(top + b"/after/.wh..wh..opq")
    lower = small_tree(top).directory(top + b"/after/").entry(top + b"/after/old", b"o")
    return lower.finish(), upper.finish()


def odd_opaque_nested():
    """An opaque folder inside an opaque folder, an opaque folder that is new, and one emptied wholly."""
    top = b"opaque-nested"
    upper = RawTar().directory(top + b"/dir/").entry(top + b"/dir/.wh..wh..opq").directory(top + b"/dir/sub/")
    upper.entry(top + b"/dir/sub/.wh..wh..opq").entry(top + b"/dir/sub/c", b"c")
    upper.directory(top + b"/new/").entry(top + b"/new/.wh..wh..opq").entry(top + b"/new/file", b"f")
    upper.directory(top + b"/empty/").entry(top + b"/empty/.wh..wh..opq")
    lower = small_tree(top).directory(top + b"/empty/").entry(top + b"/empty/old", b"o")
    return lower.finish(), upper.finish()


def odd_removed_and_back():
    """Four layers: a folder is there, is removed, is there again with other files, and one of those is removed."""
    top = b"removed-and-back"
    second = RawTar().entry(top + b"/.wh.dir")
    third = RawTar().directory(top + b"/dir/").entry(top + b"/dir/c", b"c").entry(top + b"/dir/d", b"d")
    fourth = RawTar().entry(top + b"/dir/.wh.c")
    return small_tree(top).finish(), second.finish(), third.finish(), fourth.finish()


def odd_type_changes():
    """file -> folder -> file, folder -> symlink -> folder, symlink -> file, over three layers."""
    top = b"type-changes"
    first = RawTar().directory(top + b"/").entry(top + b"/x", b"file")
    first.directory(top + b"/y/").entry(top + b"/y/old", b"o")
    first.symlink(top + b"/z", b"x")
    second = RawTar().directory(top + b"/x/").entry(top + b"/x/inner", b"i").symlink(top + b"/y", b"x")
    second.entry(top + b"/z", b"no link any more")
    third = RawTar().entry(top + b"/x", b"a file again").directory(top + b"/y/").entry(top + b"/y/new", b"n")
    return first.finish(), second.finish(), third.finish()


def odd_directory_changes():
    """An upper layer changes a folder's mode, owner, time and attributes, and keeps what is in it."""
    top = b"directory-changes"
    upper = RawTar().directory(top + b"/dir/", mode=0o1770, uid=20, gid=21, mtime=1600000000,
                               pax=xattrs({b"user.upper": b"yes"}))
    return small_tree(top).finish(), upper.finish()


def odd_link_groups():
    """One name of a hard-link group is replaced above, another removed: the others keep the old content."""
    top = b"link-groups"
    lower = RawTar().directory(top + b"/").entry(top + b"/one", b"old")
    for name in (b"/two", b"/three", b"/four"):
        lower.hardlink(top + name, top + b"/one")
    upper = RawTar().entry(top + b"/one", b"replaced").entry(top + b"/.wh.three")
    return lower.finish(), upper.finish()


def odd_big_file_replaced():
    """A file of some size is replaced by another of the same size, and by a shorter one."""
    top = b"big-file-replaced"
    return tuple(RawTar().directory(top + b"/").entry(top + b"/file", pattern(size, seed)).finish()
                 for seed, size in enumerate((700000, 700000, 300000)))


def odd_symlinked_parent():
    """An upper layer writes through what is a symlink to a folder below."""
    top = b"symlinked-parent"
    lower = RawTar().directory(top + b"/").directory(top + b"/real/").entry(top + b"/real/old", b"o")
    lower.symlink(top + b"/link", b"real")
    upper = RawTar().entry(top + b"/link/new", b"n")
    return lower.finish(), upper.finish()


def odd_wh_prefixed_names():
    """Names that look a little like whiteouts but are none."""
    top = b"wh-prefixed-names"
    tar = RawTar().directory(top + b"/")
    for name in (b".whx", b"wh.a", b".w", b"a.wh.b", b".Wh.a"):
        tar.entry(top + b"/" + name, name)
    return tar.finish()
