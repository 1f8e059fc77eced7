"""The guest's root disk: our programs with their libraries, busybox, an accelerated image, and what the guest runs."""

import pathlib
import re
import shutil

from testbed import build_dir, lazy
from testbed.pagein import Pagein
from images import debian

HERE = pathlib.Path(__file__).resolve().parent
_SIZE = "2G"  # sparse
FILES = {"app/data": lazy.text_bytes(3 << 20, 1), "app/small": b"small\n", "etc/name": b"pagein\n"}


def build(work, busybox):
    """The path of an ext4 image."""
    root = work / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "run", "tmp", "var/tmp", "var/lib", "etc", "mnt"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for applet in ("sh", "true", "sleep", "cat"):
        (root / "bin" / applet).symlink_to("busybox")
    for program in (build_dir.program("pagein"), build_dir.program("pageind"), mount_test()):
        _copy_with_libraries(program, root)
    shutil.copy(HERE / "guest.sh", root / "guest.sh")
    (root / "guest.sh").chmod(0o755)
    layout = lazy.make_layout("layout", [FILES])
    Pagein().run("convert", "--no-cache", "--no-referrer", f"oci:{layout}:latest", f"oci:{root}/image:fast")
    shutil.rmtree(layout)
    sums = "".join(f"{lazy.sha256(data)}  {name}\n" for name, data in FILES.items())
    (root / "image.sha256").write_text(sums)
    disk = work / "root.img"
    debian.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk, _SIZE])
    shutil.rmtree(root)
    return disk


def mount_test():
    return build_dir.program("pagein").parent.parent / "tests/mount_test"


def _copy_with_libraries(program, root):
    """As /bin/NAME, stripped, with the loader and libraries at their own paths."""
    target = root / "bin" / program.name
    debian.run(["strip", "-o", target, program])
    for library in re.findall(r"(/\S+) \(0x", debian.run(["ldd", program])):
        copy = root / library.lstrip("/")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, copy)
