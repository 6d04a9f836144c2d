"""Who may pull what, by the current rules and credentials."""

from collections.abc import Callable
from contextlib import suppress

import attrs

from nixery.access.credentials import Credentials
from nixery.model.image import official_name
from nixery.model.request_errors import Denied, Unauthorized
from nixery.model.rules import ANONYMOUS, Rules, Who

_NOT_FOR_THIS = "the credentials do not cover this image"


@attrs.frozen
class Guard:
    """Decides who may pull an image.

    :param credentials: identify clients; None if all clients are anonymous.
    :param rules: gives the current rules, if there are any.
    """

    credentials: Credentials | None = None
    rules: Callable[[], Rules] | None = None

    def files(self) -> tuple[object, ...]:
        """The present contents of all files that decide about access; they equal earlier ones as
        long as nobody's rights have changed."""
        rules = self.rules() if self.rules is not None else None
        return (rules, *self.credentials.files()) if self.credentials is not None else (rules,)

    @property
    def anonymous_may(self) -> bool:
        """Whether clients without credentials may pull anything; where there are credentials, that
        takes a rule."""
        if self.credentials is None:
            return True
        anonymous = self.rules().anonymous if self.rules is not None else None
        return anonymous is not None and anonymous.allow != ()

    @property
    def is_selective(self) -> bool:
        """Whether some clients may pull some images, but not all."""
        by_tokens = self.credentials is not None and self.credentials.verifier() is not None
        return self.rules is not None or by_tokens

    def permit(self, who: Who, name: str, tag: str | None) -> str:
        """Check that someone may pull an image.

        :param tag: None for an image named by its digest.
        :return: the name by which it may be pulled: ``NAME`` if ``library/NAME`` is not allowed,
            whether the set has something named ``library`` or not.
        :raises Denied: if the client may not.
        :raises Unauthorized: if better credentials are needed.
        :raises NameInvalid: if it is not the name of an image.
        """
        try:
            self._demand(who, {name}, name, tag)
        except (Denied, Unauthorized):
            official = official_name(name)
            if not official:
                raise
            with suppress(Denied, Unauthorized):
                self._demand(who, {name, official}, official, tag)
                return official
            raise
        return name

    def _demand(self, who: Who, granted: set[str], name: str, tag: str | None) -> None:
        """
        :param granted: names; credentials for any of them suffice.
        """
        if who.grants is not None:
            if granted.isdisjoint(who.grants) and not self._is_for_anybody(name, tag):
                raise Unauthorized(_NOT_FOR_THIS)
        elif who.name is None and not self.anonymous_may:
            raise Unauthorized()
        if self.rules is None or self.rules().allow(who, name, tag):
            return
        if who.name is None and self.credentials is not None:
            raise Unauthorized()
        raise Denied(name if tag is None else f"{name}:{tag}")

    def _is_for_anybody(self, name: str, tag: str | None) -> bool:
        if self.rules is None or not self.anonymous_may:
            return False
        return self.rules().allow(ANONYMOUS, name, tag)

    def admit(self, who: Who) -> None:
        """Check that someone may make requests that are not about an image.

        :raises Unauthorized: if credentials are needed.
        """
        if who.name is None and who.grants is None and not self.anonymous_may:
            raise Unauthorized()
