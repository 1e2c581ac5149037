"""The routes of rooms and messages. Commands arrive here; the WebSocket pushes their effects to every tab."""

from __future__ import annotations

import re
import secrets
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from io import BytesIO

from flask import Blueprint, Flask, Response, abort, request, send_file
from werkzeug.routing import IntegerConverter

from overseer.domain.errors import NoSuchMessage, NoSuchRoom, StorageError, StorageUnavailable
from overseer.domain.messages import PICTURE_TYPES
from overseer.domain.records import MAX_NUMBER, Asked, Page
from overseer.domain.search import Found, QueryRefused, parse
from overseer.domain.settings import parse_changes, parse_models, parse_temporary
from overseer.domain.text import clean
from overseer.llm import ModelError
from overseer.render.export import as_markdown
from overseer.render.fragments import HitsOfRoom, dom_id, partial
from overseer.render.search import as_lines
from overseer.rooms.room_handle import RoomHandle
from overseer.web.answer_stream import AnswerStream
from overseer.web.extensions import fragments, hub, overseer
from overseer.web.responses import html_response, is_htmx, redirect, wants_page, wants_redirect

bp = Blueprint("rooms", __name__)

MAX_WAIT_SECONDS = 600
PALETTE_ROOMS = 8
FIRST_HITS = 6  # of a search as one types
MIN_SEARCH_CHARS = 2
AT_MESSAGE = re.compile(r"[?&](?:at|before)=")
MARKDOWN_HEADERS = {"Vary": "Accept", "Cache-Control": "no-store"}
# The content comes from a model. A browser asks each time, because the room may be deleted or the session over.
FILE_HEADERS = {"Content-Security-Policy": "sandbox", "Cache-Control": "private, no-cache"}
PRINTED_MESSAGES = 1000  # at most, with `?all=1`

ROOM = "/rooms/<room_id>"
MESSAGE = f"{ROOM}/messages/<number:number>"


class NumberConverter(IntegerConverter):
    """Matches the number of a message in a path, if SQLite can store it as an integer."""

    regex = "[0-9]{1,18}"


def init_app(app: Flask) -> None:
    """Register the routes."""
    app.url_map.converters["number"] = NumberConverter
    app.register_blueprint(bp)


@bp.get("/")
def index() -> Response:
    q = clean(request.args.get("q", "")).strip()
    rooms = overseer().rooms().rooms
    if rooms and not q:
        return redirect("rooms.show_room", room_id=rooms[0].id)
    return html_response(page_with(home(q), None, filtered=False))


@bp.get("/rooms")
def list_rooms() -> Response:
    """List the rooms, or with `archived=1` the archived ones."""
    q, after = clean(request.args.get("q", "")), number_arg("after")
    if flag_arg("archived"):
        whole = wants_page()
        html = fragments().archive(overseer().archived_rooms(q=q, after=after), q=q, whole=whole)
        return html_response(page_with(html, None, filtered=False, title="Archived rooms") if whole else html)
    if wants_page():
        return page_without_room("Choose a room.")
    under = request.args.get("under", "")
    active = open_room_id()
    rooms = overseer().rooms(q=q, after=after, open_room=active)
    groups = first_hits(q) if after is None else []
    return html_response(
        fragments().rooms(rooms, active=active, q=q, under=under if after is not None else "", groups=groups)
    )


@bp.post("/rooms")
def create_room() -> Response:
    """Create a room, or with `reuse=1` open the one that was created and not used.

    With `temporary=1`, the new room is deleted after its use.
    """
    temporary = parse_temporary(request.form.get("temporary", ""))
    unused = overseer().empty_room() if request.form.get("reuse") and not temporary else None
    room = unused or overseer().create(request.form.get("name"), temporary=temporary)
    if wants_redirect():
        return redirect("rooms.show_room", room_id=room.id)
    url = fragments().url("rooms.show_room", room_id=room.id)
    return html_response(room_fragment(room.id), 200 if unused else 201, {"Location": url, "HX-Push-Url": url})


@bp.get(ROOM)
def show_room(room_id: str) -> Response:
    whole = request.headers.get("HX-Request-Type") != "partial" or "HX-History-Restore-Request" in request.headers
    body, status = open_room(room_id)
    if whole or not is_htmx():
        body = page_with(body, room_id)
    return html_response(body, status, {"Vary": "HX-Request"})


@bp.patch(ROOM)
def update_room(room_id: str) -> Response:
    room, changes = overseer().room(room_id), parse_changes(request.form)
    # An empty form is rejected like an empty name.
    record = room.configure(changes, name=request.form.get("name", None if changes else ""))
    if wants_redirect():
        return redirect("rooms.show_room", room_id=room_id)
    return html_response(fragments().header(record, room.settings()))


@bp.delete(ROOM)
def destroy_room(room_id: str) -> Response:
    overseer().delete(room_id)
    if wants_redirect():
        return redirect("rooms.index")
    if open_room_id() != room_id:
        return html_response("")
    rooms = overseer().rooms().rooms
    body = open_room(rooms[0].id)[0] if rooms else home()
    url = fragments().url("rooms.show_room", room_id=rooms[0].id) if rooms else fragments().url("rooms.index")
    return html_response(body, headers={"HX-Retarget": "#room", "HX-Reswap": "outerHTML", "HX-Push-Url": url})


@bp.get(f"{ROOM}/messages")
def list_messages(room_id: str) -> Response:
    room = overseer().room(room_id)
    if wants_markdown():
        text = as_markdown(room.record().name, room.transcript())
        return Response((piece.encode() for piece in text), mimetype="text/markdown", headers=MARKDOWN_HEADERS)
    page = room.messages(before=number_arg("before"))
    return html_response(fragments().messages(room_id, page), headers={"Vary": "Accept"})


@bp.post(f"{ROOM}/messages")
def create_message(room_id: str) -> Response:
    return ask(room_id)


@bp.post("/messages")
def create_message_in_new_room() -> Response:
    """Create a room and ask its first question.

    If the question cannot be stored, the room stays, unused. It is not deleted: another request with the same key may
    have asked in it meanwhile.
    """
    parse_models(request.form.getlist("model"))  # checked before there is a room
    room = overseer().create_for(submitted_text(), key=submitted_key())
    return ask(room.id, opens_room=True)


@bp.delete(f"{ROOM}/messages")
def clear_messages(room_id: str) -> Response:
    overseer().room(room_id).clear()
    return messages_response(room_id)


@bp.get(MESSAGE)
def show_message(room_id: str, number: int) -> Response:
    room = overseer().room(room_id)
    message = room.message(number)
    if wants_page():
        return redirect_to_message(room_id, number, mark=request.args.get("mark"))
    if wants_markdown():
        return Response(message.text, mimetype="text/markdown", headers=MARKDOWN_HEADERS)
    return html_response(fragments().message(room_id, message), headers={"Vary": "Accept"})


@bp.patch(MESSAGE)
def update_message(room_id: str, number: int) -> Response:
    """Store another version of a question, and have it answered."""
    asked = overseer().room(room_id).edit(number, request.form.get("text", ""))
    if wants_redirect():
        return redirect_to_message(room_id, asked.question)
    headers = {**location(room_id, asked), **leave_version(room_id, asked.question)}
    return html_response(exchange_fragment(room_id, asked), 201, headers)


@bp.put(f"{ROOM}/head")
def update_head(room_id: str) -> Response:
    """Show the version that a message belongs to."""
    number = number_in(request.form.get("message"), name="message")
    if number is None:
        abort(400, "message must be the number of a message.")
    overseer().room(room_id).show(number)
    if wants_redirect():
        return redirect_to_message(room_id, number)
    response = messages_response(room_id)
    response.headers.update(leave_version(room_id, number))
    return response


@bp.get(f"{MESSAGE}/edit")
def edit_message(room_id: str, number: int) -> Response:
    room = overseer().room(room_id)
    question = room.message(number)
    if question.role != "user":
        raise NoSuchMessage(f"There is no question {number} in this room.")
    form = fragments().editing(room_id, question, alone=wants_page())
    return html_response(page_with(form, room_id) if wants_page() else form)


@bp.post(f"{ROOM}/fork")
def fork_room(room_id: str) -> Response:
    """Copy a room into a new one, with `upto=` without what follows that message."""
    fork = overseer().fork(room_id, upto=number_in(request.form.get("upto"), name="upto"))
    if wants_redirect():
        return redirect("rooms.show_room", room_id=fork.id)
    url = fragments().url("rooms.show_room", room_id=fork.id)
    return html_response(room_fragment(fork.id), 201, {"Location": url, "HX-Push-Url": url})


@bp.get(f"{ROOM}/files/<sha256>")
def show_file(room_id: str, sha256: str) -> Response:
    media_type, content = overseer().room(room_id).file(sha256)
    response = send_file(
        BytesIO(content),
        mimetype=media_type,
        etag=sha256,
        conditional=True,
        as_attachment=media_type not in PICTURE_TYPES,
        download_name="file",
    )
    response.headers.update(FILE_HEADERS)
    return response


@bp.delete(f"{ROOM}/turn")
def stop_turn(room_id: str) -> Response:
    """Stop the answers that are being generated, or with `all=1` also those that wait.

    With `message=`, stop only that answer. With `question=` and the number of a question that waits, delete it.
    """
    room, question = overseer().room(room_id), number_value("question")
    if question is not None:
        room.withdraw(question)
    elif request.values.get("all"):
        room.stop_all()
    else:
        room.stop(number_value("message"))
    return messages_response(room_id)


@bp.post(f"{ROOM}/turn")
def create_turn(room_id: str) -> Response:
    resume = request.form.get("resume", "")
    if resume not in ("", "1"):
        abort(400, "resume must be 1, to continue an interrupted answer, or absent, to answer again.")
    room, message = overseer().room(room_id), number_value("message")
    number = room.resume(message) if resume else room.retry(message)
    if wants_redirect():
        return redirect("rooms.show_room", room_id=room_id)
    url = fragments().url("rooms.show_message", room_id=room_id, number=number)
    return html_response(fragments().message(room_id, room.message(number)), 201, {"Location": url})


@bp.get("/search")
def search() -> Response:
    """Search the texts of all rooms, or with `room=` of one."""
    q, room_id, after = clean(request.args.get("q", "")), request.args.get("room") or None, number_arg("after") or 0
    sentence, status, found = "", 200, Found()
    if q.strip():
        try:
            found = overseer().search(parse(q), room_id=room_id, after=after)
        except QueryRefused as error:
            sentence = str(error)
        except StorageUnavailable as error:
            sentence, status = str(error), 503
    within = overseer().record(room_id) if room_id else None
    groups = by_room(found)
    if request.accept_mimetypes.best == "text/plain":
        lines = as_lines(groups, found, fragments().url, sentence=sentence)
        return Response((line.encode() for line in lines), status, MARKDOWN_HEADERS, mimetype="text/plain")
    html = fragments().search(groups, found, q=q, within=within, sentence=sentence, whole=wants_page())
    return html_response(page_with(html, None, filtered=False) if wants_page() else html, headers={"Vary": "Accept"})


@bp.get("/palette")
def show_palette() -> Response:
    q = clean(request.args.get("q", "")).strip()
    rooms = overseer().rooms_named(q, limit=PALETTE_ROOMS)
    try:
        active = overseer().record(open_room_id() or "")
    except NoSuchRoom:
        active = None
    return html_response(fragments().palette(rooms, q=q, active=active, groups=first_hits(q)))


@bp.get("/models")
def list_models() -> Response:
    """Return the models whose names contain `q`. With `room=`, the one of that room is marked.

    With `several=1` they are there to choose some, and those given as `model=` are chosen.
    """
    room_id, q = request.args.get("room"), clean(request.args.get("q", "")).strip()
    names: tuple[str, ...] = ()
    problem = ""
    try:
        names = overseer().models(refresh="refresh" in request.args)
    except ModelError as error:
        problem = str(error)
    if request.args.get("several"):
        several = tuple(dict.fromkeys(parse_models(request.args.getlist("model"))))
        return html_response(fragments().several(names, chosen=several, q=q, problem=problem))
    chosen = overseer().room(room_id).settings().model if room_id else ""
    return html_response(fragments().models(names, room_id=room_id, chosen=chosen, q=q, problem=problem))


@bp.get("/healthz")
def healthz() -> Response:
    return Response("ok", mimetype="text/plain")


def ask(room_id: str, *, opens_room: bool = False) -> Response:
    """Ask the submitted question. Return it and its answer, or, with `opens_room`, the whole room.

    With several `model` fields, each of these models answers.
    """
    room = overseer().room(room_id)
    with ExitStack() as stack:
        answer = stack.enter_context(closing(AnswerStream(overseer(), room_id)))
        asked = room.ask(submitted_text(), key=submitted_key(), models=request.form.getlist("model"))
        if request.accept_mimetypes.best == "text/plain":
            response = Response(answer.plain_text(asked), 201, location(room_id, asked), mimetype="text/plain")
            response.call_on_close(stack.pop_all().close)  # also called if the client disconnects
            return response
        if seconds := preferred_wait():
            answer.wait(asked, seconds)
    if wants_redirect():
        return redirect("rooms.show_room", room_id=room_id, anchor=dom_id("message", asked.question))
    try:
        if seconds or asked.repeated:
            asked = replace(asked, messages=tuple(map(room.message, (asked.question, *asked.answers))))
    except NoSuchMessage:  # it was stored, and the room has been cleared since
        return html_response("", 201, location(room_id, asked))
    question, *answers = asked.messages
    status = 202 if seconds and not all(answer.finished for answer in answers) else 201
    if opens_room:
        url = fragments().url("rooms.show_room", room_id=room_id)
        return html_response(room_fragment(room_id), status, {**location(room_id, asked), "HX-Push-Url": url})
    body = fragments().exchange(room_id, question, answers)
    # If the WebSocket was faster, the element that this replaces is gone, and htmx ignores the partial.
    body = partial(dom_id("after", asked.question - 1), "outerHTML", body) if is_htmx() else body
    return html_response(body, status, location(room_id, asked))


def submitted_text() -> str:
    """Return the question of the form. A suggestion is a button that sends its text beside an empty field."""
    return next((text for text in request.form.getlist("text") if text.strip()), "")


def submitted_key() -> str | None:
    return request.headers.get("Idempotency-Key") or request.form.get("key")


def new_key() -> str:
    return secrets.token_urlsafe(12)


def open_room(room_id: str) -> tuple[str, int]:
    """Return `#room` and its status; if the room's file cannot be used, with the error as its text."""
    try:
        return room_fragment(room_id), 200
    except StorageUnavailable:
        raise
    except StorageError as error:
        return fragments().broken(overseer().record(room_id), sentence=str(error)), 500


def room_fragment(room_id: str) -> str:
    """Return `#room`. The revision is read first, so the tab is sent every change that came after it.

    With `all=1` it has the newest PRINTED_MESSAGES instead of the newest page, for printing.
    """
    room = overseer().room(room_id)
    record, revision = room.record(), hub().revision(room_id)
    return fragments().room(record, room.settings(), requested_page(room), revision=revision, key=new_key())


def requested_page(room: RoomHandle) -> Page:
    """Return the newest messages, with `before=` those before a message, and with `at=` those around a message."""
    if request.args.get("all") == "1":
        return room.messages(limit=PRINTED_MESSAGES)
    if (at := number_arg("at")) is not None:
        return room.messages_with(at)
    return room.messages(before=number_arg("before"))


def redirect_to_message(room_id: str, number: int, *, mark: str | None = None) -> Response:
    """Redirect to the page with a message, which is the room's own page if it is among the newest messages.

    A script marks the words of `mark` in it.
    """
    at = None if overseer().room(room_id).messages_with(number).newest else number
    return redirect("rooms.show_room", room_id=room_id, at=at, mark=mark, anchor=dom_id("message", number))


def leave_version(room_id: str, number: int) -> dict[str, str]:
    """Return the header that leads a tab which shows another version (`?at=`) to a message in the room."""
    if not AT_MESSAGE.search(request.headers.get("HX-Current-URL", "")):
        return {}
    return {"HX-Redirect": redirect_to_message(room_id, number).headers["Location"]}


def by_room(found: Found) -> list[HitsOfRoom]:
    """Group hits by their room, in the order of the best hit of each."""
    groups: dict[str, HitsOfRoom] = {}
    for hit in found.hits:
        with suppress(NoSuchRoom):  # deleted meanwhile
            if hit.room_id not in groups:
                groups[hit.room_id] = HitsOfRoom(overseer().record(hit.room_id), [])
            groups[hit.room_id].hits.append(hit)
    return list(groups.values())


def first_hits(q: str) -> list[HitsOfRoom]:
    """Return the best hits of a search as one types; none if there is nothing to search for yet."""
    if len(q.strip()) < MIN_SEARCH_CHARS:
        return []
    try:
        found = overseer().search(parse(q), limit=2 * FIRST_HITS)
    except (QueryRefused, StorageUnavailable):
        return []
    of_messages = [hit for hit in found.hits if hit.message]  # the names of rooms are listed anyway
    return by_room(replace(found, hits=tuple(of_messages[:FIRST_HITS])))


def home(text: str = "") -> str:
    """Return `#room` where no room is open: a composer, whose first question creates a room."""
    return fragments().home(key=new_key(), text=text)


def page_without_room(sentence: str) -> Response:
    return html_response(page_with(fragments().no_room(sentence=sentence), None))


def page_with(
    room_html: str,
    room_id: str | None,
    *,
    filtered: bool = True,
    title: str = "",
    reloads: bool = True,
    refresh: int = 0,
) -> str:
    """Return the page: the list of rooms, `filtered` and paged by the query, beside `#room`.

    Without JavaScript, the page of a room `reloads` itself while an answer grows, and any after `refresh` seconds.
    """
    q, revision = clean(request.args.get("q", "")) if filtered else "", hub().revision()
    rooms = overseer().rooms(q=q, after=number_arg("after") if filtered else None, open_room=room_id)
    growing = False
    if room_id:
        record = overseer().record(room_id)
        title = record.name
        growing = reloads and record.answering and not request.args.keys() & {"at", "before"}
    return fragments().page(
        room_html,
        rooms,
        title=title,
        active=room_id,
        q=q,
        revision=revision,
        growing=growing,
        refresh=refresh,
        groups=first_hits(q),
    )


def messages_response(room_id: str) -> Response:
    """Return the messages after a change, or redirect to the room."""
    if wants_redirect():
        return redirect("rooms.show_room", room_id=room_id)
    return html_response(fragments().messages(room_id, overseer().room(room_id).messages()))


def wants_markdown() -> bool:
    """Whether the client prefers the stored text to HTML."""
    return request.accept_mimetypes.best == "text/markdown"


def exchange_fragment(room_id: str, asked: Asked) -> str:
    """Return a question and its answers, or nothing if the room has been cleared since."""
    room = overseer().room(room_id)
    try:
        question, *answers = map(room.message, (asked.question, *asked.answers))
        return fragments().exchange(room_id, question, answers)
    except NoSuchMessage:
        return ""


def location(room_id: str, asked: Asked) -> dict[str, str]:
    return {"Location": fragments().url("rooms.show_message", room_id=room_id, number=asked.question)}


def number_arg(name: str) -> int | None:
    """Return a number of the query, or None. Aborts with 400 if it is not a number."""
    return number_in(request.args.get(name), name=name)


def flag_arg(name: str) -> bool:
    """Return whether a parameter of the query is 1. Aborts with 400 if it is neither 1 nor 0."""
    given = request.args.get(name, "")
    if given not in ("", "0", "1"):
        abort(400, f"{name} must be 1 or 0.")
    return given == "1"


def number_value(name: str) -> int | None:
    """Return a number of the query or the form, or None. Aborts with 400 if it is not a number."""
    return number_in(request.values.get(name), name=name)


def number_in(given: str | None, *, name: str) -> int | None:
    """Return the number that a text is, or None for an empty one. Aborts with 400 if it is not a number."""
    if not given:
        return None
    if not (given.isascii() and given.isdecimal()):
        abort(400, f"{name} must be a number.")
    return min(int(given[:20]), MAX_NUMBER)


def preferred_wait() -> int:
    """Return the seconds of `Prefer: wait=30`, or 0."""
    found = re.search(r"\bwait=(\d{1,4})\b", request.headers.get("Prefer", ""))
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0


def open_room_id() -> str | None:
    """Return the id of the room that is open in the requesting tab, from the URL that htmx sends."""
    found = re.search(r"/rooms/([0-9a-f]{12})(?:[?#]|$)", request.headers.get("HX-Current-URL", ""))
    return found[1] if found else None
