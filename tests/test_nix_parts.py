"""What Nix and git are given of the daemon."""

from nixery.nix_parts import child_environment

SECRETS = {
    "GCS_SIGNING_KEY": "secret",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    "GOOGLE_APPLICATION_CREDENTIALS": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://secret",
    "S3_BUCKET": "secret",
    "NIXERY_PKGS_REPO": "https://u:secret@h/",
    "NIX_POPULARITY_URL": "https://u:secret@h/",
    "NIXERY_ANYTHING_NEW": "secret",
    "LISTEN_FDS": "secret",
    "NOTIFY_SOCKET": "secret",
}


def test_secrets_do_not_reach_children() -> None:
    """Nix and git see nothing of what the daemon alone is to know, and all else."""
    kept = {"PATH": "/bin", "NIX_CONF_DIR": "/conf", "SSH_AUTH_SOCK": "/s", "HTTPS_PROXY": "p"}
    seen = child_environment({**SECRETS, **kept}, "/state", in_s3=True)
    assert "secret" not in repr(seen)
    assert kept.items() <= seen.items()


def test_a_binary_cache_in_s3() -> None:
    """Credentials of Amazon's are Nix's, unless images are kept in S3."""
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SHARED_CREDENTIALS_FILE": "/file"}
    assert environ.items() <= child_environment(environ, "/state").items()


def test_what_children_need() -> None:
    """Children have a home and a user where the daemon has none, are never prompted, and run
    nothing that a URL says, whatever the environment allows."""
    bare = child_environment({}, "/state")
    assert bare["HOME"] == "/state"
    assert bare["USER"]
    environ = {"HOME": "/h", "USER": "u", "GIT_ALLOW_PROTOCOL": "ext", "GIT_TERMINAL_PROMPT": "1"}
    seen = child_environment(environ, "/state")
    assert (seen["HOME"], seen["USER"]) == ("/h", "u")
    assert "ext" not in seen["GIT_ALLOW_PROTOCOL"].split(":")
    assert seen["GIT_TERMINAL_PROMPT"] == "0"
