"""Who may pull what, by the rules and credentials of the moment."""

from collections.abc import Callable
from contextlib import suppress

import attrs

from nixery.access.credentials import Credentials
from nixery.model.errors import Denied, Unauthorized
from nixery.model.image import official_name
from nixery.model.rules import ANONYMOUS, Rules, Who

_NOT_FOR_THIS = "the credentials do not cover this image"


@attrs.frozen
class Guard:
    """Lets through whoever may pull an image.

    :param credentials: by which clients say who they are; none if nobody has any, and so all
        clients are anonymous.
    :param rules: those of the moment; none if there are none.
    """

    credentials: Credentials | None = None
    rules: Callable[[], Rules] | None = None

    @property
    def anonymous_may(self) -> bool:
        """Whether there is anything for clients without credentials.

        Where there are credentials, that has to be said by a rule.
        """
        if self.credentials is None:
            return True
        anonymous = self.rules().anonymous if self.rules is not None else None
        return anonymous is not None and anonymous.allow != ()

    @property
    def is_selective(self) -> bool:
        """Whether somebody who may pull something may not pull everything."""
        by_tokens = self.credentials is not None and self.credentials.verifier() is not None
        return self.rules is not None or by_tokens

    def permit(self, who: Who, name: str, tag: str | None) -> str:
        """Let someone pull an image.

        :param tag: none for what is named by its digest.
        :return: the name as which it may be pulled: ``NAME`` for a ``library/NAME`` that may not
            be, whatever is named ``library`` in the set.
        :raises Denied: if the client may not.
        :raises Unauthorized: if better credentials are needed.
        :raises NameInvalid: if that is no name of an image.
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
        :param granted: names of which credentials for one are good enough.
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
        """Let someone in who asks for no image in particular.

        :raises Unauthorized: if credentials are needed.
        """
        if who.name is None and who.grants is None and not self.anonymous_may:
            raise Unauthorized()
