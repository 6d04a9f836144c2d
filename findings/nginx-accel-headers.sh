#!/bin/sh
# nginx drops a registry's digest and entity tag from an answer that it sends by X-Accel-Redirect.
#
# Where an upstream answers with X-Accel-Redirect, nginx sends the file in place of the body, and of
# the upstream's headers passes on a fixed few: Content-Type, but neither ETag nor those that it
# does not know, as Docker-Content-Digest. The client sees an entity tag of nginx's own, made of the
# file's time and size: it differs on each instance, and a download that goes on with If-Range and
# the registry's tag gets the whole blob, with 200, again. $upstream_http_… still has the headers:
# with "etag off" and an add_header for each they are back, and the tag counts for If-Range.
#
# Seen with nginx 1.22.1 of Debian 12. Needs apt and python3. Ends with 1 if nginx does otherwise.
set -eu
version=1.22.1-9+deb12u11
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get download -qq "nginx=$version" > log 2>&1 || { cat log; exit 1; }
dpkg-deb --extract nginx_*.deb root
python3 - "$folder" <<'PYTHON'
import getpass, http.client, http.server, os, socket, subprocess, sys, threading, time

folder = sys.argv[1]
nginx = f"{folder}/root/usr/sbin/nginx"
digest = '"sha256:0123"'
os.mkdir(f"{folder}/blobs")
with open(f"{folder}/blobs/0123", "wb") as file:
    file.write(bytes(1000))


class Upstream(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", digest)
        self.send_header("Docker-Content-Digest", digest.strip('"'))
        self.send_header("X-Accel-Redirect", self.path + "0123")
        self.end_headers()

    def log_message(self, *arguments):
        pass


upstream = http.server.HTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
mended = (
    "etag off; add_header ETag $upstream_http_etag;"
    "add_header Docker-Content-Digest $upstream_http_docker_content_digest;"
)
with open(f"{folder}/conf", "w") as file:
    file.write(f"""daemon off; pid {folder}/pid; user {getpass.getuser()}; events {{}}
        http {{ access_log off; {temporary}
        server {{ listen 127.0.0.1:{port};
            location /ask/ {{ proxy_pass http://127.0.0.1:{upstream.server_port}/; }}
            location /plain/ {{ internal; alias {folder}/blobs/; }}
            location /mended/ {{ internal; alias {folder}/blobs/; {mended} }} }} }}""")


def ask(place):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/ask/{place}/", headers={"Range": "bytes=0-9", "If-Range": digest})
    answer = connection.getresponse()
    answer.read()
    names = ("Content-Type", "ETag", "Docker-Content-Digest")
    found = (answer.status, *map(answer.getheader, names))
    print(place, *found)
    return found


print(subprocess.run([nginx, "-v"], capture_output=True, text=True).stderr.strip())
running = subprocess.Popen([nginx, "-e", f"{folder}/errors", "-c", f"{folder}/conf"])
try:
    for _ in range(100):
        if os.path.exists(f"{folder}/pid"):
            break
        time.sleep(0.1)
    plain, repaired = ask("plain"), ask("mended")
finally:
    running.terminate()
    running.wait()
kind, shown = "application/octet-stream", digest.strip('"')
if (plain[0], plain[1], plain[3]) != (200, kind, None) or plain[2] in (None, digest):
    sys.exit("changed: the upstream's headers are passed on")
if repaired != (206, kind, digest, shown):
    sys.exit("changed: what is added does not count")
PYTHON
