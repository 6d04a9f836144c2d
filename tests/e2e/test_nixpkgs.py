"""Images in use whose packages come from a set in the shape of nixpkgs."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from nixery.http.tls import Pair
from tests.e2e.clients import Docker
from tests.e2e.conftest import Run
from tests.e2e.daemon import Daemon, running
from tests.e2e.jobs import NODE
from tests.e2e.packages import PackageSet
from tests.e2e.runner_scripts import REQUIREMENTS
from tests.waiting import wait_until
from tests.web.certificates import make_pair

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate authority that the set's ``cacert`` has, and no other."""
    return make_pair(tmp_path_factory.mktemp("authority"), "an authority of the tests")


@pytest.fixture(scope="module")
def daemon(
    package_set: PackageSet, authority: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A daemon with the set in the shape of nixpkgs."""
    packages = package_set.like_nixpkgs(authority.certificate)
    with running(tmp_path_factory.mktemp("state"), packages.environ) as daemon:
        yield daemon


@contextmanager
def https_server(folder: Path, pair: Pair) -> Iterator[str]:
    """Serve a folder by HTTPS on this machine for a while.

    :return: its address.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def handler(*arguments: object) -> SimpleHTTPRequestHandler:
        return SimpleHTTPRequestHandler(*arguments, directory=str(folder))  # type: ignore[arg-type]

    with HTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_certificates_without_an_environment(
    daemon: Daemon, docker: Docker, authority: Pair, tmp_path: Path
) -> None:
    """Where the set has the certificates of authorities in nixpkgs' file alone, clients of OpenSSL
    and of GnuTLS find them even if no variable tells where."""
    image = f"{daemon.host}/shell/curl/wget"
    docker.ok("pull", "-q", image)
    (tmp_path / "word").write_text("trusted")
    clients = {"curl": ("curl", "-sS"), "wget": ("wget", "-qO-")}

    def ask(client: str, *environment: str) -> tuple[str, ...]:
        command = 'exec env -i PATH="$PATH" "$@"'
        network = ("run", "--rm", "--network=host", image, "sh", "-c", command, "sh")
        return (*network, *environment, *clients[client], f"{address}/word")

    with https_server(tmp_path, make_pair(tmp_path, authority=authority)) as address:
        for client in clients:
            assert docker.ok(*ask(client)) == "trusted"
        assert docker(*ask("curl", "SSL_CERT_FILE=/dev/null")).code != 0


PERL = ("perl", "-MError", "-e", "print qq(six\\n)")
SIX = ("python3", "-c", "import six; print(six.__name__)")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("shell/perl/perlpackages.error", PERL),
        ("perlpackages.error", PERL),
        ("shell/python3/python3packages.six", SIX),
        ("python3packages.six", SIX),
        # Two attributes, one derivation.
        ("perlpackages.iostringy", ("perl", "-MIO::Stringy", "-e", "print qq(six\\n)")),
    ],
)
def test_libraries_that_say_whose_they_are(run: Run, name: str, command: tuple[str, ...]) -> None:
    """Libraries that nixpkgs' marks tell from programs are found by their interpreters."""
    assert run(name, *command) == "six\n"


def test_main_programs(daemon: Daemon, docker: Docker, run: Run) -> None:
    """A package's ``meta.mainProgram`` is the command; several without one make none."""
    assert run("namesitsprogram") == "other\n"
    assert run("jq", "jq", "--version").startswith("jq-")
    assert run("namesnone", "one") == "one\n"
    assert "no command" in docker("run", "--rm", f"{daemon.host}/namesnone").output.lower()


def test_attributes_that_differ_in_case(run: Run) -> None:
    """Of two packages, each has a name of its own."""
    assert run("ab", "which-one") == "lower\n"
    assert run("ab--2", "which-one") == "upper\n"


def test_outputs_that_are_installed(run: Run) -> None:
    """A program and its manual are in the image, though they lie in outputs of their own."""
    script = "curl --version > /dev/null && cat /usr/share/man/man1/curl.1 && ls -d /include"
    assert run("shell/curl", "bash", "-c", f"{script} 2>&1 || echo none") == (
        "manual of curl\nls: cannot access '/include': No such file or directory\nnone\n"
    )


def test_a_private_service(daemon: Daemon, docker: Docker) -> None:
    """A package's ``passthru.image`` makes a service that ``docker run`` starts without another
    word, and that answers on the port that the image exposes."""
    image, client = f"{daemon.host}/my-service", f"{daemon.host}/shell/curl"
    for name in (image, client):
        docker.ok("pull", "-q", name)
    config = json.loads(docker.ok("inspect", image))[0]["Config"]
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    service = docker.ok("run", "-d", "--network=none", image).strip()
    try:
        # In the network of the service: no port of this machine is needed.
        inside = ("run", "--rm", f"--network=container:{service}", client)
        ask = (*inside, "curl", "-s", "http://127.0.0.1:8080/")
        wait_until(lambda: docker(*ask).output == "it serves\n")
    finally:
        docker.ok("rm", "-f", service)


def test_ci(run: Run) -> None:
    """A program that Nix did not make runs in ``ci``, and the server of an editor finds the
    libraries that it asks for, though no package brings ldconfig."""
    script = f"! command -v ldconfig || exit 1\n/node -e 1\n{REQUIREMENTS}"
    output = run("ci", "sh", "-c", script, options=("-v", f"{NODE}:/node:ro"))
    assert output == "libc.so.6 GLIBC_2\nlibstdc++.so.6 GLIBCXX_3.4\n"
