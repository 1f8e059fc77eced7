"""bcrypt password files for the registry's basic authentication, by the C library's crypt(3)."""

import ctypes
import ctypes.util
import os

_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def bcrypt_hash(password):
    """The bcrypt hash of password at the lowest cost (tests only). Not thread-safe: crypt(3) has static storage."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    # The last of the 22 salt characters carries only two bits.
    salt = "".join(_ALPHABET[byte % 64] for byte in os.urandom(21)) + "."
    hashed = library.crypt(password.encode(), f"$2b$04${salt}".encode())
    if not hashed or not hashed.startswith(b"$2b$"):
        raise RuntimeError("this C library's crypt(3) has no bcrypt")
    return hashed.decode()


def write_htpasswd(path, users):
    """Writes {name: password} as an htpasswd file."""
    path.write_text("".join(f"{name}:{bcrypt_hash(password)}\n" for name, password in users.items()))
