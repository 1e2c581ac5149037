"""The server process: flags, threads, start and shutdown. Import it after `prepare_to_serve`, see `__main__`."""

from __future__ import annotations

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
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.security import check_password_hash
from werkzeug.wsgi import ClosingIterator

from overseer import config
from overseer.application import create_app
from overseer.config import ConfigError
from overseer.domain.addresses import Access, is_loopback
from overseer.domain.errors import InstanceError
from overseer.render.markdown import render
from overseer.tools.toolbox import MAX_THREADS, Outcome
from overseer.web.extensions import served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SHUTDOWN_SECONDS = 2
COMMIT_THREADS = 64
PASSWORD_THREADS = 2


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit status. `arguments` are the flags, by default sys.argv."""
    options = parse_options(arguments, program)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    raise_file_limit()
    # While a tool computes, each token waits for the interpreter several times: p98 is 5 ms instead of 21 ms.
    sys.setswitchinterval(0.0005)
    try:
        access = config.access(os.environ)
        if not access.password and not is_loopback(options.host):
            return fail(
                f"--host {options.host or '(all)'} would let others in, and no password is set. Set OVERSEER_PASSWORD "
                "or OVERSEER_PASSWORD_FILE, or use 127.0.0.1."
            )
        app = open_app(
            options.instance,
            access.with_host(options.host),
            multi=options.multi or bool(config.BUCKET.read(os.environ)),
            node=f"{options.host}:{options.port}",
        )
        listener = listen(options.host, options.port)
    except (InstanceError, ConfigError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(listen_error(options, error))
    if access.allows_remote and not access.password:
        print(
            "OVERSEER_HOSTS or OVERSEER_TRUSTED_PROXIES is set, and no password: "
            "a proxy lets everybody in whom it does not ask for one.",
            file=sys.stderr,
        )
    serve(app, listener)
    return 0


def open_app(instance: str, access: Access, *, multi: bool, node: str) -> Flask:
    """Return the app, with its instance directory open. Raises InstanceError and ConfigError."""
    passwords = Threads(PASSWORD_THREADS)
    app = create_app(
        instance,
        access=access,
        # Checking a password takes as long as a hundred other requests.
        check_password=lambda hashed, given: bool(passwords.run(partial(check_password_hash, hashed, given))),
        run_in_thread=Threads(COMMIT_THREADS).run,
        start_thread=Threads(MAX_THREADS).start,
        multi=multi,
        node=node,
    )
    app.debug = False  # FLASK_DEBUG is for `flask run` only
    served(app).open()
    return app


def listen_error(options: argparse.Namespace, error: OSError) -> str:
    """Return the error message for an address that cannot be listened on."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"--host {options.host} is no address of this machine ({error.strerror}). Set --host or OVERSEER_HOST "
            "to one of its own, or to 0.0.0.0 for all of them."
        )
    return f"Port {options.port} cannot be used ({error.strerror}). Choose another with --port or OVERSEER_PORT."


def parse_options(arguments: Sequence[str] | None, program: str | None) -> argparse.Namespace:
    """Parse the flags, which take precedence over the environment."""
    parser = argparse.ArgumentParser(prog=program, description="Overseer: chat rooms with a language model.")
    defaults = {setting.flag: setting.read(os.environ) for setting in (config.HOST, config.PORT, config.INSTANCE)}
    parser.add_argument("--host", default=defaults["--host"], help="default: 127.0.0.1")
    parser.add_argument("--port", type=port, default=defaults["--port"], help="default: 8000")
    parser.add_argument("--instance", default=defaults["--instance"], help="directory of the data")
    parser.add_argument(
        "--multi", action="store_true", default=config.MULTI.read(os.environ), help="serve several Overseers"
    )
    return parser.parse_args(arguments)


def port(given: str) -> int:
    """Parse a port number; 0 takes a free one."""
    if not given.isdecimal() or int(given) > 65535:
        raise argparse.ArgumentTypeError(f"{given!r} is no port; choose one from 0 to 65535")
    return int(given)


def serve(app: Flask, listener: socket.socket) -> None:
    """Serve until a signal arrives; then end the turns as interrupted, and close every tab so that it reconnects."""
    from gevent import get_hub, signal_handler
    from gevent.event import Event

    from overseer.server.wsgi_server import BoundedServer

    requests = RequestCounter(app)
    server = BoundedServer(listener, requests)
    stop = Event()
    signal_handler(signal.SIGTERM, stop.set)
    signal_handler(signal.SIGINT, stop.set)
    cluster = app.extensions.get("cluster")
    if cluster is not None:
        # Before any greenlet goes on: the process may have been stopped for so long that it may serve nothing more.
        watcher = get_hub().loop.check()
        watcher.start(cluster.node.check_lease)
    server.start()
    host, port = listener.getsockname()[:2]
    threading.Thread(target=warm_up, args=(app,), daemon=True).start()
    print(f"Overseer is ready on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    stop.wait()
    if cluster is not None:
        cluster.node.drain()  # while it can still say who has its Overseers now
    server.close()
    served(app).close()
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while requests.running and time.monotonic() < deadline:
        time.sleep(0.01)
    server.stop(timeout=0)


class RequestCounter:
    """Counts the requests that are being served, WebSockets included, so that a shutdown can wait for them."""

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
    """A pool of operating system threads, for work that would block every greenlet.

    Each kind of work has its own pool: slow commits do not delay log-ins, nor slow tools commits.
    """

    def __init__(self, size: int) -> None:
        from gevent.threadpool import ThreadPool

        self._pool = ThreadPool(size)

    def run(self, work: Callable[[], object]) -> object:
        """Do some work while other greenlets run. Returns what it returns, and raises what it raises."""
        # Errors are passed on as values, because gevent would print them.
        result, error = self._pool.apply(_outcome, (work,))
        if error is not None:
            raise error
        return result

    def start(self, work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
        """Start some work, and call `done` with its outcome in the thread of the greenlets."""
        self._pool.spawn(work).rawlink(lambda result: done(result.value))


def _outcome(work: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error


def warm_up(app: Flask) -> None:
    """Load templates and the Markdown renderer before the first message, and exclude them from garbage collection."""
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
    """Return a listening socket with TCP_NODELAY, which accepted sockets inherit."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def raise_file_limit() -> None:
    """Raise the limit of file descriptors: an open room uses three, a tab two, and the default limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fail(sentence: str) -> int:
    """Print an error and return the exit status."""
    print(sentence, file=sys.stderr)
    return 1
