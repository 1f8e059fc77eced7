"""Image `python`: Debian with Python and NumPy; imports a few dozen modules, then answers HTTP."""

import shutil

from images import cache, debian, debian_base
from images.layer_recorder import LayerRecorder
from images.oci_layout import Layout

DESCRIPTION = "Debian with python3 and numpy, HTTP server, 4 layers, 200 MB"
REQUIRES = debian_base.REQUIRES
SOURCES = ["debian.py", "debian_base.py", "layer_recorder.py", "oci_layout.py", "recipe_python.py"]

_SERVER = '''"""Answers every GET with the determinant of a small matrix and how many modules are loaded."""
import asyncio, decimal, email.parser, html, http.server, json, logging, os, sqlite3, ssl, sys, urllib.request, xml.dom
import numpy

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = {"det": float(numpy.linalg.det(numpy.eye(4) * 2)), "modules": len(sys.modules)}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
'''


def build(folder):
    with cache.scratch(folder) as scratch:
        layers = _record_layers(scratch / "rootfs", folder / "work")
    config = {"Cmd": ["/usr/bin/python3", "/srv/server.py"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
              "WorkingDir": "/srv"}
    Layout(folder).add_image("latest", layers, config)
    shutil.rmtree(folder / "work")


def _record_layers(rootfs, work):
    debian_base.unpack(rootfs)
    recorder = LayerRecorder(rootfs, work)
    recorder.layer("debootstrap --variant=minbase")
    debian.chroot_apt_install(rootfs, ["python3"])
    debian_base.slim(rootfs)
    recorder.layer("apt-get install python3")
    debian.chroot_apt_install(rootfs, ["python3-numpy"])
    debian_base.slim(rootfs)
    recorder.layer("apt-get install python3-numpy")
    (rootfs / "srv/server.py").write_text(_SERVER)
    recorder.layer("COPY server.py /srv/")
    return recorder.finish()
