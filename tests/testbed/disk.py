"""A filesystem of our own in one sparse file, where the machine's is slow to delete on.

A disk mounted with `discard` discards at every unlink: removing one unpacked image of a gigabyte takes minutes there,
and seconds here.
"""

import os
import pathlib
import subprocess

SIZE = 64 << 30  # sparse; a run uses a few GiB of it


def wanted(folder):
    """Whether a disk of our own is to be mounted at folder: PAGEIN_TEST_DISK=1 or 0, else if it would discard."""
    choice = os.environ.get("PAGEIN_TEST_DISK")
    if choice in ("0", "1"):
        return choice == "1"
    return os.geteuid() == 0 and os.path.exists("/dev/loop-control") and "discard" in _mount_options(folder)


def image_path(folder):
    """The file behind the disk at folder; beside it."""
    return pathlib.Path(f"{folder}.img")


def mount(folder):
    """Makes and mounts a disk at folder. Its loop device goes away with the mount."""
    image = image_path(folder)
    with open(image, "wb") as sparse:
        sparse.truncate(SIZE)
    device = None
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
                        "-O", "verity", image], check=True)
        # Direct, so that the page cache holds everything once, as on a disk.
        device = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.strip()
        subprocess.run(["mount", "-t", "ext4", "-o", "noinit_itable", device, folder], check=True)
    except BaseException:
        image.unlink()
        raise
    finally:
        if device:
            subprocess.run(["losetup", "-d", device], check=False)  # deferred until it is unmounted


def unmount(folder):
    """Unmounts the disk at folder, if there is one, and removes its file."""
    image = image_path(folder)
    if image.exists():
        if os.path.ismount(folder):
            subprocess.run(["umount", "--lazy", "--", folder], check=False)
        image.unlink()


def _mount_options(folder):
    """Options of the mount that folder lies on."""
    longest, options = "", []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        point = fields[4]
        inside = str(folder) == point or str(folder).startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):
            longest, options = point, (fields[5] + "," + fields[-1]).split(",")
    return options
