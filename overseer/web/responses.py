"""How an answer is dressed for whoever asked: curl and htmx get a fragment, a browser without JavaScript a page."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from overseer.domain.addresses import split_url
from overseer.domain.errors import (
    AnswerInProgress,
    InstanceError,
    KeyReused,
    NoSuchMessage,
    NoSuchRoom,
    Outdated,
    StorageError,
    StorageFull,
)
from overseer.domain.records import RoomList
from overseer.domain.text import Invalid, TooLarge, clean, escape_for_log
from overseer.render.fragments import Fragments, RefusedForm
from overseer.web.auth import accepts_page, is_authenticated

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], int] = {
    NoSuchRoom: 404,
    NoSuchMessage: 404,
    AnswerInProgress: 409,
    Outdated: 409,
    TooLarge: 413,
    Invalid: 422,
    KeyReused: 422,
    InstanceError: 503,
    StorageFull: 503,
    StorageError: 500,
}
SENTENCES = {
    400: "The request could not be understood. Send an ordinary form.",
    404: "There is nothing here. Go back to your rooms.",
    405: "That cannot be done here.",
    412: "The file is not the one that was asked for. Ask for it without a condition.",
    413: "That is more than can be sent at once. Send less.",
}
PAGES = ("rooms.index", "rooms.list_rooms", "rooms.show_room", "rooms.show_message", "rooms.edit_message")
HIDDEN = ("_method", "_plain", "key", "last")  # the fields of those forms that the page fills in
VERBS = ("PATCH", "DELETE")
# Statuses whose page offers the form again. Never 403: another site may have filled it in.
CORRECTABLE = (409, 413, 422, 500, 503)
# The fields a person fills in, with their labels.
TYPED = {
    "text": "Message",
    "name": "Name of the room",
    "model": "Model",
    "temperature": "Temperature",
    "system_prompt": "System prompt",
}
TOLD_BY_HEADERS = ("Allow", "Retry-After", "Sec-WebSocket-Version", "Upgrade", "WWW-Authenticate")


def init_app(app: Flask) -> None:
    """Let forms say PATCH and DELETE, and answer every error with a sentence."""
    app.before_request(refuse_what_is_no_form)
    app.before_request(take_verb_from_form)
    app.after_request(explain_failed_condition)
    app.register_error_handler(HTTPException, http_error)
    for kind in STATUS:
        app.register_error_handler(kind, known_error)
    app.register_error_handler(ConnectionError, client_gone)
    app.register_error_handler(Exception, unknown_error)


def fragments() -> Fragments:
    """The partials, with URLs for where the app is mounted."""
    found: Fragments = current_app.extensions["fragments"](request.script_root)
    return found


def is_htmx() -> bool:
    """Whether htmx asks."""
    return request.headers.get("HX-Request") == "true"


def wants_page() -> bool:
    """Whether a browser is going somewhere, and can show nothing but a page."""
    return not is_htmx() and (is_plain() or request.headers.get("Sec-Fetch-Mode") == "navigate" or accepts_page())


def is_plain() -> bool:
    """Whether a form was sent by a browser without JavaScript.

    htmx parses what it swaps in with scripting off, so there a noscript's hidden field is part of the form too.
    """
    try:
        return not is_htmx() and "_plain" in request.values
    except HTTPException:  # a form that is too large, or did not come whole
        return "_plain" in request.args


def html(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A fragment or a page. It is never kept: it is true only now."""
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, mimetype="text/html")


def see(endpoint: str, *, anchor: str = "", **values: object) -> Response:
    """Send a browser to a page."""
    url = fragments().url(endpoint, **values)
    return Response(status=303, headers={"Location": f"{url}#{anchor}" if anchor else url})


def page_of_ours(wanted: str) -> str:
    """The address of the page of ours that is wanted, or nothing. It is built here and not taken over: a browser may
    read one that begins like ours as another site's."""
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None
    path = split_url(wanted)
    if path is None:
        return ""
    try:
        endpoint, values = adapter.match(path.path.removeprefix(request.script_root), method="GET")
        query = {name: value for name, value in parse_qsl(path.query, max_num_fields=9) if name in ("before", "q")}
    except (ValueError, HTTPException, RequestRedirect):
        return ""
    return fragments().url(endpoint, **{**query, **values}) if endpoint in PAGES else ""


def refuse_what_is_no_form() -> None:
    """JSON, or a form that is broken, would look like an empty one."""
    if request.content_length and not request.form and not request.files:
        raise BadRequest(SENTENCES[400])


def take_verb_from_form() -> None:
    """`_method=PATCH` or `DELETE` in a POST stands for the verb, since forms have only GET and POST."""
    verb = request.form.get("_method", "").upper() if request.method == "POST" else ""
    if not verb:
        return
    if verb not in VERBS:
        raise MethodNotAllowed(valid_methods=VERBS, description="A form's _method is PATCH or DELETE.")
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None
    try:
        rule, values = adapter.match(method=verb, return_rule=True)
        request.url_rule, request.view_args, request.routing_exception = rule, dict(values), None
    except HTTPException as error:
        request.routing_exception = error


def known_error(error: Exception) -> Response:
    """One of ours: its own sentence is for the person. One that is no fault of theirs is in the log, by its number."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if status < 500:
        return told(str(error), status)
    number = error_number()
    log.error("error %s: %s %s: %s", number, request.method, path_in_log(), error)
    return told(f"{error} (The log says more under {number}.)", status)


def http_error(error: HTTPException) -> Response:
    """One of Werkzeug's: a sentence for what a person can cause."""
    response = error.get_response()
    if error.code is None or error.code < 400:
        return Response(response.get_data(), response.status, response.headers)
    ours = error.description if error.description and type(error).description != error.description else None
    sentence = ours or SENTENCES.get(error.code) or f"That did not work ({error.code} {error.name})."
    answer = told(sentence, error.code)
    for name in TOLD_BY_HEADERS:
        if name in response.headers:
            answer.headers[name] = response.headers[name]
    return answer


def explain_failed_condition(response: Response) -> Response:
    """Replace a 412, with which Werkzeug sends the very file that was not wanted (If-Match, If-Unmodified-Since)."""
    if response.status_code != 412:
        return response
    response.close()
    return told(SENTENCES[412], 412)


def client_gone(error: ConnectionError) -> Response:
    """The client ended the connection in the middle of its request or handshake: nobody reads the response."""
    return Response(status=400)


def unknown_error(error: Exception) -> Response:
    """A fault of ours: the log has it."""
    number = error_number()
    log.exception("error %s: %s %s", number, request.method, path_in_log())
    return told(
        f"Something went wrong inside Overseer. Its log says what, under {number}. Nothing that was stored is lost.",
        500,
    )


def path_in_log() -> str:
    """Return the request's path as it may be logged."""
    return escape_for_log(request.path)


def error_number() -> str:
    """By which a person's error is found in the log."""
    return secrets.token_hex(4)


def told(sentence: str, status: int) -> Response:
    """An error: a page for who goes somewhere, else a fragment that knows where it belongs."""
    if not wants_page():
        where = {"HX-Retarget": "#error", "HX-Reselect": "#error", "HX-Reswap": "outerHTML", "HX-Push-Url": "false"}
        log_in = fragments().url("login.show_login", next=_wanted()) if status == 401 else ""
        return html(fragments().error(sentence, log_in=log_in), status, where)
    if status in (401, 429) or (status == 413 and request.endpoint == "login.create_login"):
        why = "" if request.method == "GET" and status == 401 else sentence  # who only comes has done nothing wrong
        return html(fragments().login(wanted=_wanted(), sentence=why, typed=_typed(), again=_again()), status)
    place = current_app.extensions["hub"].place()
    # Who is not let in is not told which rooms there are.
    rooms, back = (_rooms(), _way_back()) if is_authenticated() else (RoomList((), None), "")
    correctable = status in CORRECTABLE and (back or request.endpoint == "rooms.create_room")
    refused = _refused_form(status) if correctable else None
    body = fragments().no_room(sentence=sentence, back=back, typed=_typed(), refused=refused)
    return html(fragments().page(body, rooms, title="", active=None, q="", place=place), status)


def _wanted() -> str:
    """Where a log-in is to lead: the page that was asked for, or that of the room something was done in."""
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


def _again() -> str:
    """The page itself, for who came by a link from another site and so without the cookie."""
    foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    return page_of_ours(request.full_path) if foreign and request.method == "GET" else ""


def _way_back() -> str:
    """The page of the room that a form was sent in, if there is one."""
    room_id = (request.view_args or {}).get("room_id", "")
    try:
        current_app.extensions["overseer"].room(room_id)
    except (NoSuchRoom, StorageError):
        return ""
    return fragments().url("rooms.show_room", room_id=room_id)


def _typed() -> str:
    """Return the longest text of a form that was refused, so that nobody has to type it again."""
    try:
        return clean(max((request.form.get(name, "") for name in TYPED), key=len))
    except HTTPException:
        return ""


def _refused_form(status: int) -> RefusedForm | None:
    """Return the form that was refused, to be corrected and sent again; None if it has no text or cannot be read."""
    try:
        form = {name: clean(value) for name, value in request.form.items()}
    except HTTPException:
        return None
    if status < 500 and "key" in form:
        form["key"] = secrets.token_urlsafe(12)  # the old one may be what was refused
    fields = [(name, label, form[name]) for name, label in TYPED.items() if name in form]
    hidden = [(name, form[name]) for name in HIDDEN if name in form]
    return RefusedForm(request.script_root + request.path, hidden, fields) if fields else None


def _rooms() -> RoomList:
    try:
        rooms: RoomList = current_app.extensions["overseer"].rooms()
    except StorageError:
        return RoomList((), None)
    return rooms
