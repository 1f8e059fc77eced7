"""Image `small`: a static busybox with a shell and an HTTP server, in two layers; starts in no time."""

import shutil

from images import debian
from images.layer_recorder import LayerRecorder
from images.oci_layout import Layout

DESCRIPTION = "busybox shell and HTTP server, 2 layers, 2 MB"
REQUIRES = ["apt-get", "dpkg-deb", "tar"]
SOURCES = ["debian.py", "layer_recorder.py", "oci_layout.py", "recipe_small.py"]

_APPLETS = ["sh", "cat", "ls", "true", "false", "sleep", "echo", "httpd", "wget", "sha256sum", "find", "stat", "tar",
            "dd", "mkdir", "rm", "cp", "mv", "ln", "id", "env", "head", "wc", "chmod", "chown", "touch", "test"]
_MTIME = 1704067200
# PORT lets several containers run on the host's network at once.
_SERVE = """#!/bin/sh
exec /bin/busybox httpd -f -p "127.0.0.1:${PORT:-8080}" -h /www
"""


def build(folder):
    rootfs = folder / "rootfs"
    debian.unpack_package("busybox-static", folder / "package")
    (rootfs / "bin").mkdir(parents=True)
    shutil.copy(folder / "package/bin/busybox", rootfs / "bin/busybox")
    for applet in _APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    for name in ("etc", "tmp", "proc", "sys", "dev"):
        (rootfs / name).mkdir()
    (rootfs / "tmp").chmod(0o1777)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    recorder = LayerRecorder(rootfs, folder / "work", fixed_mtime=_MTIME)
    recorder.layer("busybox")

    (rootfs / "www").mkdir()
    (rootfs / "www/index.html").write_text("hello from small\n")
    (rootfs / "www/numbers.txt").write_text("".join(f"{number}\n" for number in range(100000)))
    (rootfs / "serve").write_text(_SERVE)
    (rootfs / "serve").chmod(0o755)
    recorder.layer("web pages")

    Layout(folder).add_image("latest", recorder.finish(), {"Cmd": ["/serve"], "Env": ["PATH=/bin"]})
    for name in ("rootfs", "package", "work"):
        shutil.rmtree(folder / name)
