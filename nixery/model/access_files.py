"""The files that say who may pull what, as settings name them."""

import attrs

from nixery.model.setting import absolute, header_url, header_word, setting


@attrs.frozen
class AccessFiles:
    """Where it is written who may pull what; each may be missing."""

    htpasswd: str | None = setting(
        "NIXERY_HTPASSWD",
        absolute,
        "Users and passwords: a file that htpasswd -B -C 12 has written.",
    )
    tokens: str | None = setting(
        "NIXERY_TOKENS",
        absolute,
        "Static bearer tokens: a file with a line user:SHA-256 of the token for each.",
    )
    jwt_key: str | None = setting(
        "NIXERY_JWT_KEY", absolute, "Public key of a token server: PEM, or a key set (JWKS)."
    )
    jwt_realm: str | None = setting(
        "NIXERY_JWT_REALM", header_url, "URL of the token server at which clients get tokens."
    )
    jwt_audience: str | None = setting(
        "NIXERY_JWT_AUDIENCE",
        header_word,
        "Name of this registry in the tokens of the token server (service, aud).",
    )
    jwt_issuer: str | None = setting(
        "NIXERY_JWT_ISSUER",
        str,
        "Issuer that tokens of the token server must name, iss (not looked at).",
    )
    rules: str | None = setting(
        "NIXERY_RULES",
        absolute,
        "Which packages and tags each user may pull: a TOML file (everything).",
    )
