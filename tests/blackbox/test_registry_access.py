"""Ways to a registry: certificates, proxies, and what is said when there is no image."""

import http.client
import http.server
import threading
import urllib.parse

import pytest

from testbed import Pagein, PrivateCa, Registry, StatusCode, FaultProxy, push_image, run
from testbed.fixtures import require


@pytest.fixture
def folder():
    path = run.new_dir("access")
    yield path
    run.remove_dir(path)


def hosts_dir(folder, registry, text):
    place = folder / "certs" / f"{registry.host}_{registry.port}_"
    place.mkdir(parents=True)
    if text is not None:
        (place / "hosts.toml").write_text(text)
    return place


@pytest.mark.parametrize("how", ["pair", "one file", "Docker's names", "none"])
def test_client_certificates(folder, images, how):
    require(Registry, Pagein)
    storage = folder / "storage"
    with Registry(storage=storage) as plain:
        push_image(images("small"), "latest", plain, "small")
    authority = PrivateCa(folder)
    with Registry(ca=authority, client_ca=authority, storage=storage) as registry:
        cert, key = authority.issue("client", ())
        place = hosts_dir(folder, registry, None)
        ca = f'server = "{registry.url}"\nca = "{registry.ca_path}"\n'
        if how == "pair":
            (place / "hosts.toml").write_text(ca + f'client = [["{cert}", "{key}"]]\n')
        elif how == "one file":
            (place / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
            (place / "hosts.toml").write_text(ca + 'client = "both.pem"\n')
        elif how == "Docker's names":
            for name, source in ("ca.crt", registry.ca_path), ("a.cert", cert), ("a.key", key):
                (place / name).write_bytes(source.read_bytes())
        else:
            (place / "hosts.toml").write_text(ca)
        done = Pagein().run("inspect", "--hosts-dir", place.parent, registry.ref("small"), check=False)
        assert (done.returncode == 0) == (how != "none"), done.stderr


class _Proxy:
    """A forward proxy that leads every request to one registry and notes the URLs."""

    def __init__(self, registry):
        urls = self.urls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                urls.append(self.path)
                parts = urllib.parse.urlsplit(self.path)
                upstream = http.client.HTTPConnection(registry.host, registry.port, timeout=30)
                headers = {name: value for name, value in self.headers.items() if "proxy" not in name.lower()}
                upstream.request(self.command, parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
                reply = upstream.getresponse()
                body = reply.read()
                self.send_response(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() in ("content-type", "docker-content-digest", "content-range"):
                        self.send_header(name, value)
                self.send_header("Content-Length", reply.getheader("Content-Length", str(len(body))))
                self.end_headers()
                self.wfile.write(body)
                upstream.close()

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_from_the_environment(registry, variable):
    require(Pagein)
    with _Proxy(registry) as proxy:
        pagein = Pagein(env={variable: proxy.url})
        report = pagein.json("inspect", "--plain-http", "images.test:5000/small:latest")
        assert report["images"]
        assert all(url.startswith("http://images.test:5000/v2/small/") for url in proxy.urls)
        asked = len(proxy.urls)
        assert asked > 0
        assert pagein.json("inspect", registry.ref("small"))["images"]
        assert len(proxy.urls) == asked, "loopback is reached without a proxy"


def test_no_such_image_is_named(registry):
    require(Pagein)
    for reference in registry.ref("small", "nope"), registry.ref("nothing"):
        done = Pagein().run("inspect", reference, check=False)
        assert done.returncode == 1
        assert f"{reference}: the registry has no such image or tag" in done.stderr


def test_mistakes_of_a_mirror_are_told_when_nobody_has_it(folder, registry):
    with FaultProxy(registry) as mirror:
        mirror.add(StatusCode(500), method=None)
        place = hosts_dir(folder, registry, f'[host."{mirror.url}"]\n')
        done = Pagein().run("inspect", "--hosts-dir", place.parent, registry.ref("small", "nope"), check=False)
        assert done.returncode == 1
        assert "no such image" in done.stderr
        assert Pagein().json("inspect", "--hosts-dir", place.parent, registry.ref("small"))["images"]
        assert mirror.requests()
