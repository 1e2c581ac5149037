"""Pass the requests below `/o/<name>/` on to the Overseer of that name, and all others to the front."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from werkzeug.wsgi import ClosingIterator

from overseer.domain.errors import Elsewhere, InstanceError, NoSuchOverseer, StorageError, StorageUnavailable
from overseer.multi.directory import NAME
from overseer.multi.front import REFUSED
from overseer.multi.instances import Instances
from overseer.multi.placement import Placement
from overseer.web.extensions import INSTANCE, IS_GONE, Instance

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATH = re.compile(rf"(?P<prefix>/o/(?P<name>{NAME.pattern}))(?P<path>/.*)", re.ASCII | re.S)


MOVED = "This Overseer has moved to another machine. Try again in a moment."


class Dispatcher:
    """The WSGI application of a server with several Overseers. With a `placement`, other servers have some of them."""

    def __init__(
        self, app: WSGIApplication, front: WSGIApplication, instances: Instances, placement: Placement | None = None
    ) -> None:
        self._app = app
        self._front = front
        self._instances = instances
        self._placement = placement

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match = PATH.fullmatch(environ.get("PATH_INFO", ""))
        with ExitStack() as stack:
            try:
                self._instances.open()
                if match is None:
                    return self._front(environ, start_response)
                instance = stack.enter_context(self._use(match["name"]))
            except (Elsewhere, InstanceError, NoSuchOverseer, StorageError) as error:
                environ[REFUSED] = error
                return self._front(environ, start_response)
            environ[INSTANCE] = instance
            if self._placement is None:  # else it may have moved
                environ[IS_GONE] = partial(self._instances.is_gone, match["name"], instance)
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + match["prefix"]
            environ["PATH_INFO"] = match["path"]
            if match["path"] == "/live":  # a tab, which is served until it closes
                body = self._app(environ, start_response)
            else:
                with self._instances.rounds.request(match["name"]):
                    body = self._app(environ, start_response)
            return ClosingIterator(body, stack.pop_all().close)

    @contextmanager
    def _use(self, name: str) -> Iterator[Instance]:
        """Keep an Overseer open during the block. Raises what `Placement.claim` and `Instances.use` raise."""
        with ExitStack() as stack:
            if self._placement is None:
                instance = stack.enter_context(self._instances.use(name))
            else:
                self._placement.claim(name)
                try:
                    instance = stack.enter_context(self._instances.use(name))
                except NoSuchOverseer:  # it was given up at this moment
                    raise StorageUnavailable(MOVED) from None
            yield instance
