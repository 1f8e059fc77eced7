"""A token server as the registry's token authentication wants it: RS256 JWT with the certificate in `x5c`.

Protocol: distribution's docs "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

import base64
import http.server
import json
import re
import threading
import time
import urllib.parse
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from testbed import run
from testbed.pki import PrivateCa

# The registry accepts a token this long after `exp` (libtrust's leeway); we sign `exp` earlier by as much.
REGISTRY_LEEWAY_SECONDS = 60


class TokenServer:
    """Serves /token on loopback in a thread. Thread-safe: users, lifetime and denial may change while it runs.

    users: {name: password}; None lets anyone have a token. `lifetime` is what the registry honours, in seconds.
    """

    service = "pagein-test-registry"
    issuer = "pagein-test-issuer"

    def __init__(self, users=None, lifetime=300, anonymous_pull=False):
        self.users = dict(users) if users is not None else None
        self.lifetime = lifetime
        self.anonymous_pull = anonymous_pull
        self.deny_with = None
        self.say_lifetime = True  # False: no expires_in, as some registries do
        self.grants = []
        self._lock = threading.Lock()
        self._server = None
        self._folder = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def realm(self):
        return f"http://127.0.0.1:{self.port}/token"

    def start(self):
        self._folder = run.new_dir("token")
        authority = PrivateCa(self._folder)
        cert_path, key_path = authority.issue("signer")
        self.root_bundle = authority.cert_path
        self._key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        der = x509.load_pem_x509_certificate(cert_path.read_bytes()).public_bytes(serialization.Encoding.DER)
        self._x5c = [base64.b64encode(der).decode()]
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            run.remove_dir(self._folder)

    def grant_count(self):
        with self._lock:
            return len(self.grants)

    def answer(self, account, password, scopes):
        """(status, JSON object) for one request."""
        if self.deny_with is not None:
            return self.deny_with, {"errors": [{"code": "DENIED"}]}
        known = self.users is None or (account in self.users and self.users[account] == password)
        if account and not known:
            return 401, {"errors": [{"code": "UNAUTHORIZED"}]}
        access = [entry for entry in map(parse_scope, scopes) if entry]
        if not known:
            if not self.anonymous_pull:
                return 401, {"errors": [{"code": "UNAUTHORIZED"}]}
            for entry in access:
                entry["actions"] = [action for action in entry["actions"] if action == "pull"]
        with self._lock:
            self.grants.append({"account": account, "access": access, "time": time.time()})
        token = self.sign(account or "", access)
        answer = {"token": token, "access_token": token,
                  "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if self.say_lifetime:
            answer["expires_in"] = max(1, int(self.lifetime))
        return 200, answer

    def sign(self, account, access):
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5c": self._x5c}
        claims = {"iss": self.issuer, "sub": account, "aud": self.service, "jti": uuid.uuid4().hex, "access": access,
                  "iat": now, "nbf": now - 120, "exp": now + int(self.lifetime) - REGISTRY_LEEWAY_SECONDS}
        signed = b".".join(_b64(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return (signed + b"." + _b64(signature)).decode()


def parse_scope(text):
    """`repository:name:pull,push` as the token's access entry, or None."""
    match = re.fullmatch(r"([a-z]+)(?:\([^)]*\))?:(.+):([a-z,*]+)", text)
    return {"type": match[1], "name": match[2], "actions": match[3].split(",")} if match else None


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _basic_credentials(header):
    if not header or not header.lower().startswith("basic "):
        return None, None
    account, _, password = base64.b64decode(header[6:]).decode(errors="replace").partition(":")
    return account, password


def _handler_for(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            account, password = _basic_credentials(self.headers.get("Authorization"))
            self._reply(*server.answer(account, password, query.get("scope", [])))

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            form = urllib.parse.parse_qs(body)
            scopes = [scope for text in form.get("scope", []) for scope in text.split(" ")]
            self._reply(*server.answer(form.get("username", [None])[0], form.get("password", [None])[0], scopes))

        def _reply(self, status, answer):
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
    return Handler
