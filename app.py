"""The server: `python app.py [--host H] [--port P] [--instance DIR]`, or `flask --app app run --debug`."""

from __future__ import annotations

if __name__ == "__main__":
    import gc

    gc.disable()  # until all is loaded: nothing of it is garbage

    # Before anything else is imported: what imports a socket or a lock must get gevent's.
    from gevent import monkey

    monkey.patch_all()

import argparse
import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click
from flask import Flask
from werkzeug.security import check_password_hash
from werkzeug.wsgi import ClosingIterator

from overseer import config
from overseer import create_app as make_app
from overseer.config import ConfigError
from overseer.domain.addresses import is_loopback
from overseer.domain.errors import InstanceError
from overseer.render.markdown import render
from overseer.tools.registry import MAX_THREADS, Outcome

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["create_app", "main"]

SHUTDOWN_SECONDS = 2
COMMITS = 64  # at a time; with slow disks the others wait
CHECKS = 2  # passwords compared at a time


def create_app() -> Flask:
    """The app for `flask --app app`, where a mistake in the environment is a sentence too."""
    try:
        return make_app()
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def main() -> int:
    """Serve until SIGTERM or Ctrl-C."""
    options = parse_options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    raise_file_limit()
    # Beside a tool that computes, each token waits several times for the interpreter: p98 5 ms instead of 21 ms.
    sys.setswitchinterval(0.0005)
    try:
        access = config.access(os.environ)
        if not access.password and not is_loopback(options.host):
            return fail(
                f"--host {options.host or '(all)'} would let others in, and no password is set. Set OVERSEER_PASSWORD "
                "or OVERSEER_PASSWORD_FILE, or use 127.0.0.1."
            )
        checks = Threads(CHECKS)
        app = make_app(
            options.instance,
            access=access.with_host(options.host),
            # To check a password takes as long as a hundred other requests.
            check_password=lambda hashed, password: bool(checks.run(partial(check_password_hash, hashed, password))),
            run_in_thread=Threads(COMMITS).run,
            start_thread=Threads(MAX_THREADS).start,
        )
        app.debug = False  # whatever FLASK_DEBUG says: that is for `flask run`
        app.extensions["overseer"].open()
        listener = listen(options.host, options.port)
    except (InstanceError, ConfigError) as error:
        return fail(str(error))
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            return fail(
                f"--host {options.host} is no address of this machine ({error.strerror}). Set --host or OVERSEER_HOST "
                "to one of its own, or to 0.0.0.0 for all of them."
            )
        return fail(
            f"Port {options.port} cannot be used ({error.strerror}). Choose another with --port or OVERSEER_PORT."
        )
    if access.allows_remote and not access.password:
        print(
            "OVERSEER_HOSTS or OVERSEER_TRUSTED_PROXIES is set, and no password: "
            "a proxy lets everybody in whom it does not ask for one.",
            file=sys.stderr,
        )
    serve(app, listener)
    return 0


def parse_options() -> argparse.Namespace:
    """The flags, which win over the environment."""
    parser = argparse.ArgumentParser(description="Overseer: chat rooms with a language model.")
    environment = os.environ.get
    parser.add_argument(
        "--host", default=environment("OVERSEER_HOST", "").strip() or "127.0.0.1", help="default: 127.0.0.1"
    )
    parser.add_argument("--port", type=port, default=environment("OVERSEER_PORT") or "8000", help="default: 8000")
    parser.add_argument("--instance", default=environment("OVERSEER_INSTANCE"), help="where the data lives")
    return parser.parse_args()


def port(given: str) -> int:
    """A port number; 0 takes a free one."""
    if not given.isdecimal() or int(given) > 65535:
        raise argparse.ArgumentTypeError(f"{given!r} is no port; choose one from 0 to 65535")
    return int(given)


def serve(app: Flask, listener: socket.socket) -> None:
    """Answer requests until a signal comes; then end turns as interrupted and send every tab away, to come back."""
    from gevent import signal_handler
    from gevent.event import Event

    from overseer.server.wsgi_server import BoundedServer

    requests = Running(app)
    server = BoundedServer(listener, requests)
    stop = Event()
    signal_handler(signal.SIGTERM, stop.set)
    signal_handler(signal.SIGINT, stop.set)
    server.start()
    host, port = listener.getsockname()[:2]
    threading.Thread(target=warm_up, args=(app,), daemon=True).start()
    print(f"Overseer is ready on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    stop.wait()
    server.close()
    app.extensions["overseer"].close()
    app.extensions["hub"].close()
    until = time.monotonic() + SHUTDOWN_SECONDS
    while requests.running and time.monotonic() < until:
        time.sleep(0.01)
    server.stop(timeout=0)


class Running:
    """Counts the requests that are being answered, sockets included: a server that stops lets them end."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.running = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> ClosingIterator:
        self.running += 1
        try:
            return ClosingIterator(self._app(environ, start_response), self._ended)
        except BaseException:
            self._ended()
            raise

    def _ended(self) -> None:
        self.running -= 1


class Threads:
    """Threads of the operating system, at most so many, for what would hold up every greenlet.

    Each kind of work has its own, so that commits to a slow disk keep no log-in waiting, nor tools that hang a commit.
    """

    def __init__(self, most: int) -> None:
        from gevent.threadpool import ThreadPool

        self._pool = ThreadPool(most)

    def run(self, work: Callable[[], object]) -> object:
        """Do some work, and let other greenlets run meanwhile. Returns and raises what it does."""
        # An error is carried over by hand: gevent would print it, too.
        result, error = self._pool.apply(_outcome, (work,))
        if error is not None:
            raise error
        return result

    def start(self, work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
        """Begin some work, and tell its outcome in the thread that all greenlets share."""
        self._pool.spawn(work).rawlink(lambda result: done(result.value))


def _outcome(work: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error


def warm_up(app: Flask) -> None:
    """Load what the first message would otherwise wait for, a little at a time, and never look for garbage in it."""
    try:
        for name in app.jinja_env.list_templates():
            app.jinja_env.get_template(name)
            time.sleep(0)
        render("```python\n1\n```")
        gc.collect()
        gc.freeze()
    finally:
        gc.enable()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections send small writes at once (accepted sockets inherit it)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def raise_file_limit() -> None:
    """An open room takes three descriptors, a tab one; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
