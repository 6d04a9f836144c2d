"""The worked examples for Nix: each with the commands and the configuration of its page."""

import base64
import getpass
import shutil
from pathlib import Path

import pytest

from tests.e2e.clients import Ran, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.git_servers import git_over_ssh
from tests.e2e.nginx import serving
from tests.e2e.packages import STORE, PackageSet
from tests.examples import blocks, moved, settings, typed
from tests.ports import free_port

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

SECRET = "not-for-everybody"
ARM = """
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }: {
  tool = derivation {
    name = "tool-1.0"; inherit system; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
    args = [ "-euc" "mkdir -p $out/bin; echo built >$out/bin/tool; echo built there; exit 0" ];
  };
}
"""


def shell(command: str, **environ: str) -> Ran:
    """Type a command."""
    return run(["bash", "-c", command], **environ)


def own_settings(packages: PackageSet, folder: Path, *more: str) -> Path:
    """A folder with a nix.conf: that of the tests, and more."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = (Path(packages.environ["NIX_CONF_DIR"]) / "nix.conf").read_text()
    (folder / "nix.conf").write_text("\n".join([usual, *more]))
    return folder


def build_of(daemon: Daemon) -> dict[str, object]:
    """The last build of a daemon."""
    found: dict[str, object] = daemon.get(
        f"/builds/{daemon.get('/builds?n=1').json()[0]['id']}"
    ).json()
    return found


def test_a_private_binary_cache(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """With the page's commands and files, packages come from a cache that asks for a password, and
    nothing is built; with a wrong password, nothing comes, and neither password is told."""
    page, port = "private-cache", free_port()
    keys, cache, there = tmp_path / "keys", tmp_path / "cache", f"127.0.0.1:{port}"
    keys.mkdir()
    generate, copy, *_ = typed(page)
    assert shell(moved(generate, {"/srv/keys": keys})).code == 0
    # Every image has these two besides, which nixpkgs' own cache has otherwise.
    wanted = {"/srv/packages -A tool": f"{package_set.folder} -A hello -A cacert -A iana-etc"}
    here = {"NIX_CONF_DIR": package_set.environ["NIX_CONF_DIR"], "NIX_CONFIG": f"store = {STORE}"}
    copied = shell(moved(copy, {**wanted, "/srv/cache": cache, "/srv/keys": keys}), **here)
    assert copied.code == 0, copied.output
    encrypted = run(["openssl", "passwd", "-apr1", SECRET]).output.strip()
    (keys / "users").write_text(f"nixery:{encrypted}\n")
    (site,) = blocks(page, "nginx")
    places = {"listen 80": f"listen {there}", "/srv/cache": cache, "/srv/keys": keys}

    def start(password: str, name: str) -> Daemon:
        folder = tmp_path / name
        (nix_conf,) = blocks(page, "ini")
        public = (keys / "cache.public").read_text().strip()
        told = moved(
            nix_conf,
            {
                "http://cache.example": f"http://{there}",
                "PUBLIC_KEY": public,
                "/etc/nix/netrc": folder / "netrc",
                # It can't be reached from here.
                " https://cache.nixos.org": "",
            },
        )
        own_settings(package_set, folder, told, "substitute = true", "max-jobs = 0")
        (netrc,) = blocks(page, "netrc")
        told = moved(netrc, {"cache.example": "127.0.0.1", "SECRET": password})
        (folder / "netrc").write_text(told)
        return start_daemon(
            state=folder / "state",
            NIX_CONF_DIR=str(folder),
            NIXERY_NIX_STORE=str(folder / "store"),
        )

    with serving(moved(site, places), tmp_path / "nginx"):
        daemon = start(SECRET, "right")
        assert daemon.pull("hello").status == 200
        build = build_of(daemon)
        fetched = build["fetched"]
        assert isinstance(fetched, dict)
        assert fetched["paths"] > 0
        assert build["derivations"] == []
        refused = start("wrong", "wrong")
        assert b"--max-jobs" in refused.pull("hello").body  # it would have to be built
        for each in (daemon, refused):
            assert SECRET not in each.log
        for name in ("right", "wrong"):
            shell(f"chmod -R u+w {tmp_path / name}/store")


def test_an_arm64_builder(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """With the page's files, a package for 64-bit ARM is built by another machine, by a key that
    can do nothing else there: here by a second store behind an SSH server, which plays one."""
    page = "arm64-builder"
    there = tmp_path / "there"
    (packages := tmp_path / "packages").mkdir()
    (packages / "default.nix").write_text(ARM)
    (keys := tmp_path / "ssh").mkdir()
    trusted, named = blocks(page, "ini")
    far = own_settings(package_set, there, moved(trusted, {"root nix": getpass.getuser()}))
    with git_over_ssh(keys) as server:
        generate, *_ = typed(page)
        assert shell(moved(generate, {"/etc/nix/builder": tmp_path / "builder"})).code == 0
        (allowed,) = blocks(page, "authorized_keys")
        serve = (
            f"NIX_CONF_DIR={far} NIX_USER_CONF_FILES=/dev/null nix-store --store {there}/store"
            " --option extra-platforms aarch64-linux --serve --write"
        )
        line = moved(
            allowed,
            {
                "nix-store --serve --write": serve,
                "PUBLIC_KEY": (tmp_path / "builder.pub").read_text().strip(),
            },
        )
        (keys / "user.pub").write_text(line)
        (print_key, _) = [each for each in typed(page) if each.startswith(("base64", "curl"))]
        printed = shell(moved(print_key, {"/etc/ssh/ssh_host_ed25519_key.pub": keys / "host.pub"}))
        assert base64.b64decode(printed.output).startswith(b"ssh-ed25519 ")
        told = moved(
            named,
            {
                "nix@arm.example": f"{getpass.getuser()}@127.0.0.1",
                "/etc/nix/builder": tmp_path / "builder",
                "HOST_KEY": printed.output.strip(),
            },
        )
        options = moved(settings(page)["NIX_SSHOPTS"], {"22": server.port})
        here = {
            "NIX_CONF_DIR": str(own_settings(package_set, tmp_path / "here", told)),
            "NIXERY_NIX_STORE": str(tmp_path / "here" / "store"),
            "NIXERY_PKGS_PATH": str(packages),
            "NIX_SSHOPTS": options,
        }
        daemon = start_daemon(**here)
        answer = daemon.pull("arm64/tool")
        assert answer.status == 200, f"{answer.body!r}\n{(keys / 'log').read_text()}"
        digest = answer.json()["config"]["digest"]
        assert daemon.get(f"/v2/arm64/tool/blobs/{digest}").json()["architecture"] == "arm64"
        assert list((there / "store/nix/store").glob("*-tool-1.0"))
        login = ["ssh", "-F", "none", "-i", str(tmp_path / "builder"), "-p", str(server.port)]
        asked = [*login, "-o", f"UserKnownHostsFile={keys}/known", "-o", "BatchMode=yes"]
        assert "built" not in run([*asked, "127.0.0.1", "echo", "built"]).output
    for each in (there, tmp_path / "here"):
        shell(f"chmod -R u+w {each}/store")
        shutil.rmtree(each / "store")
