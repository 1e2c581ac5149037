"""The addresses of a server with several Overseers that belong to none of them: `/`, `/healthz`, `PUT /o/<name>`.

One of several servers that share them has `/_owner` as well, for a proxy that asks which server has an Overseer.
"""

from __future__ import annotations

import re
from typing import cast

from flask import Flask, Response, current_app, request

from overseer.config import ConfigError, check_password
from overseer.domain.errors import OverseerExists, StorageUnavailable
from overseer.domain.text import Invalid, clean
from overseer.multi.directory import NAME, Directory
from overseer.multi.placement import Placement
from overseer.render import assets
from overseer.web import auth, responses
from overseer.web.auth import PasswordPolicy
from overseer.web.password import Check, Password, hashed
from overseer.web.responses import OWNER_HEADER, html_response, is_htmx, wants_page

REFUSED = "overseer.refused"  # in the environment: why a request for an Overseer cannot be passed on to it
# All but `make`; None stands for addresses that lead nowhere.
OPEN_ENDPOINTS = frozenset({None, "show_front", "healthz", "find", "open_overseer", "show_owner", *assets.ENDPOINTS})
ASKED = re.compile(rf"/o/({NAME.pattern})(?![^/?])", re.ASCII)
NOT_FOUND = "There is nothing here. Open the address that you were given; it ends with the name of your Overseer."


def init_app(
    app: Flask, overseers: Directory, policy: PasswordPolicy, check: Check, placement: Placement | None = None
) -> None:
    """Register the routes and handlers. `policy` has the password of those who may make an Overseer."""
    app.extensions.update(directory=overseers, check_password=check)
    auth.init_app(app, lambda: policy)
    app.before_request(raise_refusal)
    responses.init_app(app, respond)
    assets.init_app(app)
    app.add_url_rule("/", "show_front", show_front)
    app.add_url_rule("/healthz", "healthz", lambda: Response("ok", mimetype="text/plain"))
    app.add_url_rule("/o", "find", find)
    app.add_url_rule("/o/<name>", "open_overseer", open_overseer)
    app.add_url_rule("/o/<name>", "make", make, methods=["PUT"])
    if placement is not None:
        app.extensions["placement"] = placement
        app.add_url_rule("/_owner", "show_owner", show_owner)
    app.register_error_handler(404, lambda error: respond(NOT_FOUND, 404))


def raise_refusal() -> None:
    """Raise what the dispatcher has found."""
    if (error := request.environ.get(REFUSED)) is not None:
        raise cast(Exception, error)


def show_front() -> Response:
    return respond("", 200)


def find() -> Response:
    """Redirect to the Overseer whose name was typed."""
    return redirect_to(request.args.get("name", "").strip().lower())


def open_overseer(name: str) -> Response:
    return redirect_to(name)


def make(name: str) -> Response:
    """Make an Overseer with its password. A repeated request is answered as the first one was."""
    password = request.form.get("password", "")
    if not password:
        raise Invalid("Send the password of the new Overseer as the form field “password”.")
    try:
        check_password(password)
    except ConfigError as error:
        raise Invalid(str(error)) from None
    try:
        directory().add(name, hashed(password))
    except OverseerExists:
        if not Password(directory().password(name), check=current_app.extensions["check_password"]).matches(password):
            raise
    return Response(f"{name}\n", 201, {"Location": address(name)}, mimetype="text/plain")


def show_owner() -> Response:
    """Tell a proxy which server to ask: the URI is in the header X-Original-URI. 404 if that cannot be found out.

    A proxy counts a 503 as a failure of this server, and would ask it for no other Overseer either.
    """
    match = ASKED.match(request.headers.get("X-Original-URI", ""))
    placement = cast(Placement, current_app.extensions["placement"])
    try:
        address = placement.whose(match[1] if match else "")
    except StorageUnavailable as error:
        return Response(f"{error}\n", 404, {"Cache-Control": "no-store"}, mimetype="text/plain")
    return Response(status=204, headers={OWNER_HEADER: address, "Cache-Control": "no-store"})


def redirect_to(name: str) -> Response:
    """Redirect to an Overseer. Raises NoSuchOverseer."""
    directory().require(name)
    return Response(status=308 if request.path != "/o" else 303, headers={"Location": address(name)})


def directory() -> Directory:
    return cast(Directory, current_app.extensions["directory"])


def address(name: str) -> str:
    return f"{request.script_root}/o/{name}/"


def respond(sentence: str, status: int) -> Response:
    """Return the front page, with a sentence on what went wrong, or only that."""
    template = "front.html" if wants_page() or (status == 200 and not is_htmx()) else "_error.html"
    html = current_app.jinja_env.get_template(template).render(
        title="",
        sentence=sentence,
        typed=clean(request.args.get("name", "")),
        log_in="",
        root=request.script_root,
        static=static_url,
    )
    return html_response(html, status)


def static_url(name: str) -> str:
    version = current_app.extensions["assets"].version(name)
    return f"{request.script_root}/static/{name}?v={version}"
