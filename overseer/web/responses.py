"""Responses: fragments for curl and htmx, pages and redirects for a browser without JavaScript, and errors."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from overseer.domain.addresses import split_url
from overseer.domain.errors import (
    AnswerInProgress,
    Elsewhere,
    InstanceError,
    KeyReused,
    NoSuchFile,
    NoSuchImport,
    NoSuchMessage,
    NoSuchOverseer,
    NoSuchRoom,
    NoSuchShare,
    Outdated,
    OverseerExists,
    StorageError,
    StorageUnavailable,
    TooManyShares,
)
from overseer.domain.records import RoomList
from overseer.domain.text import Invalid, TooLarge, clean, escape_for_log
from overseer.live.renderer import ASK_OWNER
from overseer.render.fragments import RefusedForm
from overseer.web.auth import accepts_page, is_authenticated
from overseer.web.extensions import IS_GONE, fragments, hub, overseer

log = logging.getLogger(__name__)

Respond = Callable[[str, int], Response]

STATUS: dict[type[Exception], int] = {
    NoSuchOverseer: 404,
    NoSuchRoom: 404,
    NoSuchShare: 404,
    NoSuchFile: 404,
    NoSuchImport: 404,
    NoSuchMessage: 404,
    AnswerInProgress: 409,
    Outdated: 409,
    OverseerExists: 409,
    TooManyShares: 409,
    TooLarge: 413,
    Elsewhere: 421,
    Invalid: 422,
    KeyReused: 422,
    InstanceError: 503,
    StorageUnavailable: 503,
    StorageError: 500,
}
SENTENCES = {
    400: "The request could not be understood. Send an ordinary form.",
    404: "There is nothing here. Go back to your rooms.",
    405: "That cannot be done here.",
    412: "The file is not the one that was asked for. Ask for it without a condition.",
    413: "That is more than can be sent at once. Send less.",
}
OWNER_HEADER = "Overseer-Owner"  # of a 421: the address of the server that has the Overseer
RETRY_SECONDS = 1  # after which what cannot be done at the moment may be tried again
CREATING_ENDPOINTS = ("rooms.create_room", "rooms.create_message_in_new_room")
PAGES = (
    "exports.list_formats",
    "imports.show_import",
    "imports.show_imports",
    "login.list_sessions",
    "rooms.edit_message",
    "rooms.index",
    "rooms.list_rooms",
    "rooms.search",
    "rooms.show_message",
    "rooms.show_room",
    "shares.list_shares",
)
QUERY_OF_PAGES = ("archived", "at", "before", "mark", "q")
HIDDEN_FIELDS = ("_method", "_plain", "key")
METHODS = ("PATCH", "PUT", "DELETE")  # that a form may send as _method
# Errors whose page shows the form again, to correct and resend. Never 403: another site may have filled it in.
CORRECTABLE_STATUSES = (409, 413, 422, 500, 503)
# The fields a person fills in, with their labels.
LABELS = {
    "text": "Message",
    "name": "Name of the room",
    "model": "Model",
    "temperature": "Temperature",
    "system_prompt": "System prompt",
}
# What visitors of a share see. They learn nothing else of the server, not even that it has rooms.
VISITOR_ENDPOINTS = ("shares.show_share", "shares.show_shared_file")
VISITOR_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
VISITOR_ERROR_POLICY = (
    "default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
TRY_LATER = "Try again later."
CANNOT_BE_OPENED = "This share can’t be opened at the moment."
SECRET_IN_PATH = re.compile(r"(/shares/[0-9a-f]{12})[^/]+")
ERROR_HEADERS = ("Allow", "Retry-After", "Sec-WebSocket-Version", "Upgrade", "WWW-Authenticate")


def init_app(app: Flask, respond: Respond | None = None) -> None:
    """Let forms send PATCH, PUT and DELETE, and respond to every error with an error message, made by `respond`."""
    app.extensions["error_response"] = respond or error_message
    app.before_request(reject_unreadable_form)
    app.before_request(override_method)
    app.after_request(replace_precondition_failed)
    app.register_error_handler(HTTPException, handle_http_error)
    for kind in STATUS:
        app.register_error_handler(kind, handle_known_error)
    app.register_error_handler(ConnectionError, handle_disconnect)
    app.register_error_handler(Exception, handle_unknown_error)


def is_htmx() -> bool:
    """Whether htmx sent the request."""
    return request.headers.get("HX-Request") == "true"


def wants_page() -> bool:
    """Whether a browser navigates, and so needs a page instead of a fragment."""
    return not is_htmx() and (wants_redirect() or request.headers.get("Sec-Fetch-Mode") == "navigate" or accepts_page())


def wants_redirect() -> bool:
    """Whether a browser without JavaScript sent a form, and so needs a redirect to a page.

    htmx parses what it swaps in with scripting off, so there a noscript's hidden field is part of the form too.
    """
    try:
        return not is_htmx() and "_plain" in request.values
    except HTTPException:  # the form is too large or incomplete
        return "_plain" in request.args


def html_response(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a fragment or a page. It is never cached, since every event may change it."""
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, mimetype="text/html")


def redirect(endpoint: str, *, anchor: str = "", **values: object) -> Response:
    """Redirect a browser to a page."""
    url = fragments().url(endpoint, **values)
    return Response(status=303, headers={"Location": f"{url}#{anchor}" if anchor else url})


def own_page_url(wanted: str) -> str:
    """Return the URL of a page of this app, or an empty string if `wanted` is not one.

    The URL is built from the route, and not copied: a browser may read one that begins like ours as another site's.
    """
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None
    url = split_url(wanted)
    if url is None:
        return ""
    try:
        endpoint, values = adapter.match(url.path.removeprefix(request.script_root), method="GET")
        query = {name: value for name, value in parse_qsl(url.query, max_num_fields=9) if name in QUERY_OF_PAGES}
    except (ValueError, HTTPException, RequestRedirect):
        return ""
    return fragments().url(endpoint, **{**query, **values}) if endpoint in PAGES else ""


def reject_unreadable_form() -> None:
    """Reject JSON and broken forms, which Werkzeug would read as empty ones."""
    if request.content_length and not request.form and not request.files:
        raise BadRequest(SENTENCES[400])


def override_method() -> None:
    """Route a POST whose form has `_method=PATCH`, `PUT` or `DELETE` as that method: forms have only GET and POST."""
    method = request.form.get("_method", "").upper() if request.method == "POST" else ""
    if not method:
        return
    if method not in METHODS:
        raise MethodNotAllowed(valid_methods=METHODS, description="A form's _method is PATCH or DELETE.")
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None
    try:
        rule, values = adapter.match(method=method, return_rule=True)
        request.url_rule, request.view_args, request.routing_exception = rule, dict(values), None
    except HTTPException as error:
        request.routing_exception = error


def handle_known_error(error: Exception) -> Response:
    """Respond with the message of an error of ours. One that the client did not cause is logged, with an identifier."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, Elsewhere):
        response = error_response(str(error), status)
        response.headers[OWNER_HEADER] = error.address
        return response
    if status < 500:
        return error_response(str(error), status)
    error_id = new_error_id()
    log.error("error %s: %s %s: %s", error_id, request.method, path_in_log(), error)
    response = error_response(f"{error} (See {error_id} in the server log.)", status)
    if response.status_code == 503:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def handle_http_error(error: HTTPException) -> Response:
    """Respond to an error of Werkzeug, or one raised by `abort`, with an error message."""
    response = error.get_response()
    if error.code is None or error.code < 400:
        return Response(response.get_data(), response.status, response.headers)
    own = error.description if error.description and type(error).description != error.description else None
    sentence = own or SENTENCES.get(error.code) or f"That did not work ({error.code} {error.name})."
    explained = error_response(sentence, error.code)
    for name in ERROR_HEADERS:
        if name in response.headers:
            explained.headers[name] = response.headers[name]
    return explained


def replace_precondition_failed(response: Response) -> Response:
    """Replace a 412: Werkzeug sends the file with it that If-Match or If-Unmodified-Since has excluded."""
    if response.status_code != 412:
        return response
    response.close()
    return error_response(SENTENCES[412], 412)


def handle_disconnect(error: ConnectionError) -> Response:
    """Return any response: the client ended the connection during its request or handshake, and reads none."""
    return Response(status=400)


def handle_unknown_error(error: Exception) -> Response:
    """Log an unexpected error with its traceback, and respond with its identifier."""
    error_id = new_error_id()
    log.exception("error %s: %s %s", error_id, request.method, path_in_log())
    return error_response(f"Something went wrong. See {error_id} in the server log.", 500)


def path_in_log() -> str:
    """Return the request's path as it may be logged: without the secret of a share."""
    return escape_for_log(SECRET_IN_PATH.sub(r"\1…", request.script_root + request.path))


def new_error_id() -> str:
    """Return an identifier that the page and the log both show, so that the error can be found in the log."""
    return secrets.token_hex(4)


def error_response(sentence: str, status: int) -> Response:
    """Render an error as the app does. What fails in an Overseer that was removed meanwhile is not found."""
    if status >= 500 and IS_GONE in request.environ and request.environ[IS_GONE]():
        sentence, status = SENTENCES[404], 404
    respond: Respond = current_app.extensions["error_response"]
    return respond(sentence, status)


def error_message(sentence: str, status: int) -> Response:
    """Render an error: a page for browser navigations, otherwise a fragment that replaces `#error`."""
    if request.endpoint in VISITOR_ENDPOINTS:
        return _visitor_error(sentence, status)
    if not wants_page():
        return _error_fragment(sentence, status)
    if status in (401, 429) or (status == 413 and request.endpoint == "login.create_login"):
        return _login_page(sentence, status)
    # Who is not logged in must not learn which rooms there are.
    revision = hub().revision()
    rooms, back = (_rooms(), _room_url()) if is_authenticated() else (RoomList((), None), "")
    is_correctable = status in CORRECTABLE_STATUSES and (back or request.endpoint in CREATING_ENDPOINTS)
    refused = _refused_form(status) if is_correctable else None
    body = fragments().no_room(sentence=sentence, back=back, typed=_typed_text(), refused=refused)
    page = fragments().page(body, rooms, title="", active=None, q="", revision=revision)
    return html_response(page, status)


def _visitor_error(sentence: str, status: int) -> Response:
    """Render an error for a visitor of a share: a page without links, the same for all causes of a status."""
    advice = ASK_OWNER if status == 404 else TRY_LATER
    headers = {**VISITOR_HEADERS, "Content-Security-Policy": VISITOR_ERROR_POLICY}
    return html_response(fragments().share_ended(sentence, advice, page=True), status, headers)


def _error_fragment(sentence: str, status: int) -> Response:
    headers = {"HX-Retarget": "#error", "HX-Reselect": "#error", "HX-Reswap": "outerHTML", "HX-Push-Url": "false"}
    log_in = fragments().url("login.show_login", next=_wanted_url()) if status == 401 else ""
    return html_response(fragments().error(sentence, log_in=log_in), status, headers)


def _login_page(sentence: str, status: int) -> Response:
    shown = "" if request.method == "GET" and status == 401 else sentence  # opening a page is no failed attempt
    page = fragments().login(wanted=_wanted_url(), sentence=shown, typed=_typed_text(), again=_same_page_url())
    return html_response(page, status)


def _wanted_url() -> str:
    """Return where a log-in leads: the requested page, or that of the room in which something was done."""
    if request.endpoint in ("login.show_login", "login.create_login"):
        return _field("next")
    if request.method == "GET" and wants_page():
        return request.full_path.removesuffix("?")
    room_id = (request.view_args or {}).get("room_id")
    return fragments().url("rooms.show_room", room_id=room_id) if room_id else ""


def _field(name: str) -> str:
    """Return a field of the request; an empty string if its form cannot be read."""
    try:
        return request.values.get(name, "")
    except HTTPException:
        return request.args.get(name, "")


def _same_page_url() -> str:
    """Return the URL of this page if a link of another site led here: such a request comes without the cookie."""
    is_foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    return own_page_url(request.full_path) if is_foreign and request.method == "GET" else ""


def _room_url() -> str:
    """Return the URL of the room whose form was sent, or an empty string."""
    room_id = (request.view_args or {}).get("room_id", "")
    try:
        overseer().record(room_id)
    except (NoSuchRoom, StorageError):
        return ""
    return fragments().url("rooms.show_room", room_id=room_id)


def _typed_text() -> str:
    """Return the longest text of a rejected form, so that nobody has to type it again."""
    try:
        return clean(max((request.form.get(name, "") for name in LABELS), key=len))
    except HTTPException:
        return ""


def _refused_form(status: int) -> RefusedForm | None:
    """Return the rejected form, to correct and resend; None if it has no text or cannot be read."""
    try:
        form = {name: list(map(clean, values)) for name, values in request.form.lists()}
    except HTTPException:
        return None
    if status < 500 and "key" in form:
        form["key"] = [secrets.token_urlsafe(12)]  # the old one may be what was rejected
    fields = [(name, label, value) for name, label in LABELS.items() for value in form.get(name, ())]
    hidden = [(name, value) for name in HIDDEN_FIELDS for value in form.get(name, ())]
    return RefusedForm(request.script_root + request.path, hidden, fields) if fields else None


def _rooms() -> RoomList:
    try:
        return overseer().rooms()
    except StorageError:
        return RoomList((), None)
