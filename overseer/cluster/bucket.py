"""An S3-compatible bucket with conditional writes: all that the nodes of a cluster share.

The operations are those of https://docs.aws.amazon.com/AmazonS3/latest/API/, with path-style addresses.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import requests
from requests.adapters import HTTPAdapter
from requests_aws4auth import AWS4Auth
from urllib3.util import Retry

from overseer.domain.errors import InstanceError, StorageUnavailable

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
CONNECTIONS = 64
DELETED_AT_ONCE = 1000  # the most that one request may name
RACERS = 3
PROBE_SECONDS = 20.0  # SeaweedFS 4.48 lets writes of one object at the same time wait for whole seconds
CONFLICT = (409, 412)  # 409: another conditional write of the object is being made
READ_RETRIES = Retry(2, backoff_factor=0.05, allowed_methods=["GET", "HEAD"], status_forcelist=[500, 502, 503, 504])


class Conflict(Exception):
    """The object is not as it was when it was read."""


class BucketUnavailable(StorageUnavailable):
    """The bucket does not answer, or refuses."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A JSON object as it was read or written, and its ETag."""

    value: Mapping[str, Any]
    etag: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key, its secret, and the region that requests are signed for."""

    key: str
    secret: str
    region: str


class Bucket:
    """A bucket at `url`, which ends with its name. Methods raise BucketUnavailable.

    `seconds` is how long a request may wait for the bucket.
    """

    def __init__(self, url: str, credentials: Credentials, *, seconds: float) -> None:
        parts = urlsplit(url.rstrip("/"))
        self.name = parts.path.strip("/")
        self.endpoint = f"{parts.scheme}://{parts.netloc}"
        self.region = credentials.region
        self._url = f"{self.endpoint}/{self.name}"
        self._seconds = seconds
        self._http = requests.Session()
        self._http.trust_env = False  # neither a proxy nor a .netrc is meant for the bucket
        self._http.auth = AWS4Auth(credentials.key, credentials.secret, credentials.region, "s3")
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=READ_RETRIES))

    def get(self, key: str) -> Stored | None:
        """Return an object, or None."""
        response = self._request("GET", key)
        if response.status_code == 404:
            return None
        return Stored(self._checked(response).json(), response.headers.get("ETag", ""))

    def put(self, key: str, value: Mapping[str, Any], over: Stored | None) -> Stored:
        """Write an object over exactly the one that was read, or where there is none. Raises Conflict.

        If the answer is lost, the object is read again: it was written if it has this value.
        """
        condition = {"If-Match": over.etag} if over else {"If-None-Match": "*"}
        body = json.dumps(value).encode()
        try:
            response = self._request("PUT", key, data=body, headers=condition)
        except BucketUnavailable:
            if (found := self.get(key)) is not None and dict(found.value) == dict(value):
                return found
            raise
        if response.status_code in CONFLICT or (over and response.status_code == 404):
            raise Conflict(key)
        return Stored(value, self._checked(response).headers.get("ETag", ""))

    def has(self, key: str) -> bool:
        """Return whether there is an object."""
        response = self._request("HEAD", key)
        return response.status_code != 404 and bool(self._checked(response))

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below a prefix that ends with a slash."""
        pages = self._pages({"prefix": prefix, "delimiter": "/"})
        found = (
            node.text or "" for page in pages for node in page.iterfind(f"{NAMESPACE}CommonPrefixes/{NAMESPACE}Prefix")
        )
        return [name.removeprefix(prefix).rstrip("/") for name in found]

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of the objects below a prefix."""
        for page in self._pages({"prefix": prefix}):
            yield from (node.text or "" for node in page.iterfind(f"{NAMESPACE}Contents/{NAMESPACE}Key"))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. Those that are not there are ignored."""
        for start in range(0, len(keys), DELETED_AT_ONCE):
            objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys[start:][:DELETED_AT_ONCE])
            body = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
            checksum = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            response = self._request("POST", "", params={"delete": ""}, data=body, headers={"Content-MD5": checksum})
            failed = self._xml(response).find(f"{NAMESPACE}Error")
            if failed is not None:
                raise BucketUnavailable(f"The bucket did not delete {failed.findtext(f'{NAMESPACE}Key')}. Try again.")

    def delete_below(self, prefix: str) -> None:
        """Delete all objects below a prefix."""
        self.delete(list(self.keys(prefix)))

    def require_conditions(self) -> None:
        """Check that the bucket keeps conditions, also of writes at the same time. Raises InstanceError.

        A bucket that accepts them and does not keep them would let two nodes own one Overseer. Waits PROBE_SECONDS for
        each request.
        """
        patient = copy(self)
        patient._seconds = PROBE_SECONDS
        patient._probe()

    def _probe(self) -> None:
        key = f"probe/{secrets.token_hex(8)}"
        try:
            first = self.put(key, {"n": 1}, None)
            stale = Stored({}, '"00000000000000000000000000000000"')
            kept = self._refuses(key, None) and self._refuses(key, stale)
            second = self.put(key, {"n": 2}, first) if kept else first
            kept = (
                kept
                and self._refuses(key, first)
                and self._one_wins(key, second)
                and self._one_wins(f"{key}/new", None)
            )
        except Conflict:
            kept = False
        finally:
            self.delete([key, f"{key}/new"])
        if not kept:
            raise InstanceError(
                "The bucket does not keep conditions on writes (If-Match, If-None-Match), so two nodes could own one "
                "Overseer. Use a store that does: docs/cluster.md lists some."
            )

    def _refuses(self, key: str, over: Stored | None) -> bool:
        try:
            self.put(key, {"n": 0}, over)
        except Conflict:
            return True
        return False

    def _one_wins(self, key: str, over: Stored | None) -> bool:
        """Return whether exactly one of several writes at the same time succeeds."""

        def attempt(number: int) -> bool:
            try:
                self.put(key, {"n": number}, over)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(RACERS) as pool:
            return sum(pool.map(attempt, range(10, 10 + RACERS))) == 1

    def _pages(self, parameters: Mapping[str, str]) -> Iterator[ElementTree.Element]:
        token = ""
        while True:
            more = {"continuation-token": token} if token else {}
            page = self._xml(self._request("GET", "", params={"list-type": "2", **parameters, **more}))
            yield page
            token = page.findtext(f"{NAMESPACE}NextContinuationToken") or ""
            if page.findtext(f"{NAMESPACE}IsTruncated") != "true" or not token:
                return

    def _xml(self, response: requests.Response) -> ElementTree.Element:
        try:
            return ElementTree.fromstring(self._checked(response).content)  # noqa: S314 - the operator's own bucket
        except ElementTree.ParseError:
            raise BucketUnavailable(f"{self._url} does not answer as a bucket. Check OVERSEER_BUCKET.") from None

    def _request(self, method: str, key: str, **options: Any) -> requests.Response:
        url = f"{self._url}/{quote(key)}" if key else self._url
        try:
            return self._http.request(method, url, timeout=self._seconds, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise BucketUnavailable(f"The bucket at {self._url} does not answer. Try again in a moment.") from error

    def _checked(self, response: requests.Response) -> requests.Response:
        if response.ok:
            return response
        if response.status_code in (401, 403):
            raise BucketUnavailable(f"The bucket at {self._url} refuses the credentials. Check AWS_ACCESS_KEY_ID.")
        raise BucketUnavailable(f"The bucket at {self._url} answered {response.status_code}. Try again in a moment.")
