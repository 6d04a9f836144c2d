"""Certificates, as openssl makes them."""

import subprocess
from pathlib import Path

from nixery.http.tls import Pair


def make_pair(
    folder: Path, name: str = "localhost", days: int = 2, authority: Pair | None = None
) -> Pair:
    """Make a certificate for a name, with its key, in place of what was there.

    :param authority: who signs it; it signs itself if there is none.
    """
    fresh = Pair(str(folder / "new-cert.pem"), str(folder / "new-key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    where = ["-nodes", "-days", str(days), "-keyout", fresh.key, "-out", fresh.certificate]
    named = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    signed = ["-CA", authority.certificate, "-CAkey", authority.key] if authority else []
    subprocess.run([*command, *where, *named, *signed], check=True, capture_output=True)
    pair = Pair(str(folder / "cert.pem"), str(folder / "key.pem"))
    Path(fresh.certificate).replace(pair.certificate)
    Path(fresh.key).replace(pair.key)
    return pair
