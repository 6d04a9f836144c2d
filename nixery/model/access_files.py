"""The files that say who may pull what, as settings name them."""

import attrs

from nixery.model.setting import absolute, header_url, header_word, setting


@attrs.frozen
class AccessFiles:
    """Where it is written who may pull what; each may be missing.

    :param htpasswd: Users and passwords: a file that htpasswd -B -C 12 has written.
    :param tokens: Static bearer tokens: a file with a line user:SHA-256 of the token for each.
    :param jwt_key: Public key of a token server: PEM, or a key set (JWKS).
    :param jwt_realm: URL of the token server at which clients get tokens.
    :param jwt_audience: Name of this registry in the tokens of the token server (service, aud).
    :param jwt_issuer: Issuer that tokens of the token server must name, iss (not looked at).
    :param rules: Which packages and tags each user may pull: a TOML file (everything).
    :param api_token: File with the token of operators, who may warm and remove images below /api (a
        file that is made in the state folder, api-token).
    :param webhook_secret: File with the secret by which a forge signs what it sends to
        /hooks/source (nothing is taken there).
    :param notify_secret: File with the secret by which what is sent to NIXERY_NOTIFY_URL is signed
        (it is not signed).
    """

    htpasswd: str | None = setting("NIXERY_HTPASSWD", absolute)
    tokens: str | None = setting("NIXERY_TOKENS", absolute)
    jwt_key: str | None = setting("NIXERY_JWT_KEY", absolute)
    jwt_realm: str | None = setting("NIXERY_JWT_REALM", header_url)
    jwt_audience: str | None = setting("NIXERY_JWT_AUDIENCE", header_word)
    jwt_issuer: str | None = setting("NIXERY_JWT_ISSUER")
    rules: str | None = setting("NIXERY_RULES", absolute)
    api_token: str | None = setting("NIXERY_API_TOKEN_FILE", absolute)
    webhook_secret: str | None = setting("NIXERY_WEBHOOK_SECRET_FILE", absolute)
    notify_secret: str | None = setting("NIXERY_NOTIFY_SECRET_FILE", absolute)
