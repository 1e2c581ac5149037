"""The way in and out: `GET` and `POST /login`, `POST /logout`."""

from __future__ import annotations

from typing import cast

from flask import Blueprint, Flask, Response, current_app, request

from overseer.domain.addresses import split_url
from overseer.live.hub import Hub
from overseer.render.fragments import partial
from overseer.web.auth import door, logged_in
from overseer.web.responses import fragments, html, page_of_ours, see

bp = Blueprint("login", __name__)

LOGGED_OUT = "You are logged out. Log in to go on."


def init_app(app: Flask) -> None:
    """Register the way in and out."""
    app.register_blueprint(bp)


@bp.get("/login")
def show_login() -> Response:
    came_from = split_url(request.referrer or "")
    wanted = request.args.get("next") or (came_from.path if came_from else "")
    if door().password is None or door().session() is not None:
        return go_on(wanted)
    return html(fragments().login(wanted=wanted))


@bp.post("/login")
def create_login() -> Response:
    if door().password is None:
        return go_on(request.form.get("next", ""))
    door().check_password(request.form.get("password", ""))
    token, session = door().sessions.begin()
    response = go_on(request.form.get("next", ""))
    response.set_cookie(
        door().sessions.cookie,
        token,
        expires=session.until,
        path=request.script_root or "/",
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return response


@bp.post("/logout")
def destroy_login() -> Response:
    session = logged_in()
    response = see("login.show_login")
    if session is not None:
        door().sessions.end(session)
        cast(Hub, current_app.extensions["hub"]).log_out(session.id, farewell())
        response.delete_cookie(
            door().sessions.cookie,
            path=request.script_root or "/",
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
    return response


def farewell() -> str:
    """What a tab is told last whose log-in ended."""
    html = fragments().error(LOGGED_OUT, log_in=fragments().url("login.show_login"))
    return partial("error", "outerHTML", html)


def go_on(wanted: str) -> Response:
    """Send a browser to the page it wanted, if it is one of ours."""
    return Response(status=303, headers={"Location": page_of_ours(wanted) or fragments().url("rooms.index")})
