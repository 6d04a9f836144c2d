#!/bin/sh
# Clients of containers/image (podman, skopeo, buildah) send an Authorization header where they have
# no credentials at all: after a Basic challenge, `Authorization: Basic Og==`, which is a colon
# between no user and no password. A registry that takes any such header for credentials answers
# somebody who has not logged in that their credentials are wrong.
#
# Seen with skopeo 1.9.3 of Debian 12; podman 4.3.1 (containers/image 5.23.1) does the same.
# Fails if a client of this version does otherwise. Needs Debian 12, apt and python3.
set -eu
VERSION='1.9.3+ds1-1+b10'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get download -qq "skopeo=$VERSION" libgpgme11 libassuan0 libdevmapper1.02.1 > log 2>&1 || { cat log; exit 1; }
for package in *.deb; do dpkg-deb --extract "$package" root; done
cat > registry.py <<'PYTHON'
"""A registry that challenges everybody, and prints what clients send."""
import http.server, os, subprocess, sys, threading

seen = []

class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
image = f"docker://localhost:{server.server_port}/hello"
environ = {**os.environ, "HOME": os.getcwd(), "XDG_RUNTIME_DIR": os.getcwd()}
skopeo = [sys.argv[1], "inspect", "--tls-verify=false", image]
ran = subprocess.run(skopeo, capture_output=True, text=True, env=environ)
print(*seen, ran.stderr.strip(), sep="\n")
expected = [("/v2/", None), ("/v2/hello/manifests/latest", "Basic Og==")]
sys.exit(0 if seen == expected else "it behaves otherwise now")
PYTHON
LD_LIBRARY_PATH="$folder/root/usr/lib/x86_64-linux-gnu:$folder/root/lib/x86_64-linux-gnu"
export LD_LIBRARY_PATH
root/usr/bin/skopeo --version
python3 registry.py "$folder/root/usr/bin/skopeo"
