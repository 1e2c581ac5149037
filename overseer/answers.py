"""How an answer is dressed for whoever asked: curl and htmx get a fragment, a browser without JavaScript a page."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from overseer.chat_room import NotNow
from overseer.fragments import Fragments
from overseer.instance import InstanceError
from overseer.registry import NoSuchRoom, RoomList
from overseer.sqlite import StorageError, StorageFull
from overseer.transcript import KeyReused, NoSuchMessage, Outdated
from overseer.words import Invalid, TooLarge

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], int] = {
    NoSuchRoom: 404,
    NoSuchMessage: 404,
    NotNow: 409,
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
    413: "That is more than can be sent at once. Send less.",
}
VERBS = ("PATCH", "DELETE")


def init_app(app: Flask) -> None:
    """Let forms say PATCH and DELETE, and answer every error with a sentence."""
    app.before_request(refuse_what_is_no_form)
    app.before_request(take_verb_from_form)
    app.register_error_handler(HTTPException, http_error)
    for kind in STATUS:
        app.register_error_handler(kind, known_error)
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
    return not is_htmx() and (is_plain() or request.headers.get("Sec-Fetch-Mode") == "navigate")


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
    """One of ours: its own sentence is for the person."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return told(str(error), status)


def http_error(error: HTTPException) -> Response:
    """One of Werkzeug's: a sentence for what a person can cause."""
    response = error.get_response()
    if error.code is None or error.code < 400:
        return Response(response.get_data(), response.status, response.headers)
    ours = error.description if error.description and type(error).description != error.description else None
    sentence = ours or SENTENCES.get(error.code) or f"That did not work ({error.code} {error.name})."
    answer = told(sentence, error.code)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(error.valid_methods)
    return answer


def unknown_error(error: Exception) -> Response:
    """A fault of ours: the log has it."""
    log.exception("%s %s failed", request.method, request.path)
    return told("Something went wrong inside Overseer; its log says what. Nothing that was stored is lost.", 500)


def told(sentence: str, status: int) -> Response:
    """An error: a page for who goes somewhere, else a fragment that knows where it belongs."""
    if not wants_page():
        where = {"HX-Retarget": "#error", "HX-Reselect": "#error", "HX-Reswap": "outerHTML", "HX-Push-Url": "false"}
        return html(fragments().error(sentence), status, where)
    place = current_app.extensions["hub"].place()
    # Who is not let in is not told which rooms there are.
    rooms = RoomList((), None) if status in (401, 403) else _rooms()
    body = fragments().no_room(sentence=sentence, back=_way_back(), typed=_typed())
    return html(fragments().page(body, rooms, title="", active=None, q="", place=place), status)


def _way_back() -> str:
    """The page of the room that a form was sent in, if there is one."""
    room_id = (request.view_args or {}).get("room_id", "")
    try:
        current_app.extensions["overseer"].room(room_id)
    except (NoSuchRoom, StorageError):
        return ""
    return fragments().url("rooms.show_room", room_id=room_id)


def _typed() -> str:
    """The words of a form that was refused: nobody types them twice."""
    try:
        return request.form.get("text") or request.form.get("system_prompt") or ""
    except HTTPException:
        return ""


def _rooms() -> RoomList:
    try:
        rooms: RoomList = current_app.extensions["overseer"].rooms()
    except StorageError:
        return RoomList((), None)
    return rooms
