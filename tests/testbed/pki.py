"""A private certificate authority for TLS and token tests, made anew in a folder of the test."""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


class PrivateCa:
    """Issues certificates; writes ca.crt at once and NAME.crt, NAME.key per issue(). Files belong to the caller."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._key = _new_key()
        self._name = _subject("pagein test CA")
        self._cert = self._build(self._name, self._key.public_key(), [], authority=True)
        self.cert_path = self.folder / "ca.crt"
        self.cert_path.write_bytes(_pem(self._cert))

    def issue(self, name, hosts=("127.0.0.1", "localhost")):
        """A server certificate for hosts (names or IP addresses): returns (cert path, key path)."""
        key = _new_key()
        cert = self._build(_subject(name), key.public_key(), hosts)
        cert_path = self.folder / f"{name}.crt"
        key_path = self.folder / f"{name}.key"
        cert_path.write_bytes(_pem(cert))
        key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                               serialization.NoEncryption()))
        return cert_path, key_path

    def _build(self, subject, public_key, hosts, authority=False):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public_key)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=7))
                   .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True))
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False)
        return builder.sign(self._key, hashes.SHA256())


def _new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _subject(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)
