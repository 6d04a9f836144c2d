"""What all pages need: style, scripts, and the pages of errors."""

from textwrap import fill

from klein import Klein
from twisted.web.template import tags

from nixery.http.answers import NOT_FOUND, RETRY_AFTER, RefusedRequest
from nixery.http.operation import text_answers
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.model.errors import NixeryError
from nixery.web.pages.page import Page, prefers_html, send_page, send_static, send_text

_FILE = Route(errors=Errors.PAGE, operations=text_answers("text/css", "text/javascript"))


class PagesApi:
    """Answers what pages refer to, by GET and HEAD, and shows errors to people."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    @app.route("/static/<string:digest>/<string:name>", endpoint=_FILE)
    def static(self, request: RegistryRequest, digest: str, name: str) -> bytes:
        """Style and scripts."""
        content = send_static(request, name)
        if content is None:
            raise _lost("There is no such file here", "See the start page for what is served.")
        return content

    async def show_error(self, request: RegistryRequest, error: Exception) -> bytes:
        """Answer with the page of an error."""
        match error:
            case NixeryError():
                request.setHeader(b"Retry-After", b"%d" % RETRY_AFTER)
                title, text, status = "This can't be shown now", f"{error.public()}.", 503
            case RefusedRequest():
                (title, text), status = error.page, error.kind.status
            case _:
                title, status = "Something went wrong here", 500
                text = "The details are in the registry's log."
        if not prefers_html(request):
            return send_text(request, fill(f"{title}. {text}", 80) + "\n", status)
        link = tags.p(tags.a("To the start page", href="/"))
        return send_page(request, Page(title, [tags.h1(title), tags.p(text), link]), status)


def _lost(title: str, text: str) -> RefusedRequest:
    return RefusedRequest(NOT_FOUND, title, page=(title, text))
