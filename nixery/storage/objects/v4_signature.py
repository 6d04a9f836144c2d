"""V4 signed URLs: pure. Google took the form over from Amazon; prefix and algorithm differ.

google-cloud-storage signs them too, but its public methods can't date a URL back.

https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

import hashlib
import time
from collections.abc import Callable
from urllib.parse import quote, urlencode, urlsplit


def presigned_url(
    url: str,
    account: str,
    sign: Callable[[bytes], bytes],
    since: float,
    lifetime: int,
) -> str:
    """A URL that lets its bearer GET an object.

    :param url: the object's, its path quoted.
    :param account: whose key signs: a service account's e-mail address.
    :param sign: gives the RSA-SHA256 signature of some bytes.
    :param since: when the URL begins to work, in seconds since the epoch.
    :param lifetime: seconds from then on.
    """
    algorithm, stamp = "GOOG4-RSA-SHA256", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(since))
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    query = urlencode(
        {
            "X-Goog-Algorithm": algorithm,
            "X-Goog-Credential": f"{account}/{scope}",
            "X-Goog-Date": stamp,
            "X-Goog-Expires": lifetime,
            "X-Goog-SignedHeaders": "host",
        },
        quote_via=quote,
    )
    parts = urlsplit(url)
    request = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode("ascii")).hexdigest()
    signature = sign(f"{algorithm}\n{stamp}\n{scope}\n{digest}".encode("ascii")).hex()
    return f"{url}?{query}&X-Goog-Signature={signature}"
