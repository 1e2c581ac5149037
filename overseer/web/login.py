"""Logging in and out, and the list of sessions: `/login`, `/logout`, `/sessions`."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, abort, request

from overseer.domain.addresses import split_url
from overseer.domain.text import clean
from overseer.render.fragments import partial
from overseer.web.auth import LOGGED_OUT, current_session
from overseer.web.extensions import access_policy, fragments, hub
from overseer.web.responses import html_response, own_page_url, redirect, wants_page, wants_redirect

bp = Blueprint("login", __name__)


def init_app(app: Flask) -> None:
    """Register the routes."""
    app.register_blueprint(bp)


@bp.get("/login")
def show_login() -> Response:
    came_from = split_url(request.referrer or "")
    wanted = request.args.get("next") or (came_from.path if came_from else "")
    if access_policy().password is None or access_policy().session() is not None:
        return redirect_to_page(wanted)
    return html_response(fragments().login(wanted=wanted))


@bp.post("/login")
def create_login() -> Response:
    policy = access_policy()
    response = redirect_to_page(request.form.get("next", ""))
    if policy.password is None:
        return response
    policy.check_password(request.form.get("password", ""))
    token, session = policy.sessions.create(request.remote_addr or "", clean(request.user_agent.string))
    response.set_cookie(
        policy.sessions.cookie_name,
        token,
        expires=session.expires_at,
        path=request.script_root or "/",
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return response


@bp.post("/logout")
def destroy_login() -> Response:
    session = current_session()
    response = redirect("login.show_login")
    if session is not None:
        end_session(session.id, response)
    return response


@bp.get("/sessions")
def list_sessions() -> Response:
    check_password_is_set()
    return html_response(sessions_html(page=wants_page()), headers={"Vary": "HX-Request"})


@bp.delete("/sessions/<session_id>")
def destroy_session(session_id: str) -> Response:
    check_password_is_set()
    response = redirect("login.list_sessions") if wants_redirect() else html_response("")
    if not end_session(session_id, response):
        abort(404, "This log-in doesn’t exist or has already ended.")
    if not wants_redirect():
        response.set_data(sessions_html(page=False))
    return response


def check_password_is_set() -> None:
    """Abort with 404 if the server has no password, and so no sessions."""
    if access_policy().password is None:
        abort(404, "This server has no password, so there are no log-ins.")


def sessions_html(*, page: bool) -> str:
    """Render the valid sessions as a page or as a fragment."""
    current = current_session()
    return fragments().sessions(access_policy().sessions.live(), current=current.id if current else "", page=page)


def end_session(session_id: str, response: Response) -> bool:
    """End a session, close its WebSockets and delete its cookie if it is the current one.

    Return whether it was valid.
    """
    if not access_policy().sessions.delete(session_id):
        return False
    hub().log_out(session_id, logged_out_frame())
    current = current_session()
    if current is not None and current.id == session_id:
        response.delete_cookie(
            access_policy().sessions.cookie_name,
            path=request.script_root or "/",
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
    return True


def logged_out_frame() -> str:
    """Return the last frame for a tab whose session has ended."""
    error = fragments().error(LOGGED_OUT, log_in=fragments().url("login.show_login"))
    return partial("error", "outerHTML", error)


def redirect_to_page(wanted: str) -> Response:
    """Redirect to the wanted page if it is one of this app, otherwise to the rooms."""
    return Response(status=303, headers={"Location": own_page_url(wanted) or fragments().url("rooms.index")})
