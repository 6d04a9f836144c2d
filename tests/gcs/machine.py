"""The metadata server that machines at Google get their account's tokens from."""

from tests.gcs.accounts import Accounts
from tests.gcs.answers import Answer, Asked, Refused, json_answer

_FLAVOR = {"Metadata-Flavor": "Google"}
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def machine_answer(asked: Asked, name: str, accounts: Accounts, project: str) -> Answer:
    """What a machine is told, whose account is the first that is known.

    :param name: the path below ``/computeMetadata/v1/``.
    :raises Refused: if there is nothing of that name, or a web page may have asked.
    """
    if asked.headers.get("metadata-flavor") != "Google":
        raise Refused(403, "forbidden", "Missing Metadata-Flavor:Google header.")
    email = next(iter(accounts.known))
    account = name.removeprefix("instance/service-accounts/")
    if account in (f"{who}/token" for who in ("default", email)):
        answer = accounts.hand_out()
        return Answer(answer.status, {**answer.headers, **_FLAVOR}, answer.body)
    if account in (f"{who}/" for who in ("default", email)):
        document = {"aliases": ["default"], "email": email, "scopes": [_SCOPE]}
        return json_answer(document, headers=_FLAVOR)
    if name == "project/project-id":
        return Answer(200, {"Content-Type": "application/text", **_FLAVOR}, project.encode())
    raise Refused(404, "notFound", f"Not Found: {name}")
