"""The bucket: conditional writes of a real store, and one that does not keep conditions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from overseer.cluster.bucket import Bucket, BucketUnavailable, Conflict, Credentials, Stored
from overseer.domain.errors import InstanceError
from tests.cluster.bucket_proxy import BucketProxy, Link
from tests.cluster.conftest import Store
from tests.cluster.program import free_ports
from tests.cluster.seaweed import BUCKET, KEY, REGION, SECRET

STALE = Stored({}, '"00000000000000000000000000000000"')


@pytest.fixture
def link(store: Store) -> Iterator[Link]:
    proxy = BucketProxy(store.port, free_ports(1))
    yield proxy.links[0]
    proxy.stop()


def through(link: Link, *, seconds: float = 1.0, secret: str = SECRET) -> Bucket:
    return Bucket(f"http://127.0.0.1:{link.port}/{BUCKET}", Credentials(KEY, secret, REGION), seconds=seconds)


def test_object_is_written_over_exactly_the_one_that_was_read(bucket: Bucket, name: str) -> None:
    assert bucket.get(name) is None and not bucket.has(name)
    first = bucket.put(name, {"n": 1}, None)
    assert bucket.get(name) == first and bucket.has(name)
    for condition in (None, STALE):
        with pytest.raises(Conflict):
            bucket.put(name, {"n": 2}, condition)
    second = bucket.put(name, {"n": "zwei"}, first)
    with pytest.raises(Conflict):
        bucket.put(name, {"n": 3}, first)
    assert bucket.get(name) == second and second.value == {"n": "zwei"}
    bucket.delete([name])
    with pytest.raises(Conflict):
        bucket.put(name, {"n": 4}, second)
    assert bucket.get(name) is None


def test_objects_are_listed_in_pages_and_deleted(bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{name}/f & {number % 3}/<{number}>" for number in range(25)]
    for key in keys:
        bucket.put(key, {}, None)
    ask = bucket._http.request

    def in_pages(method: str, url: str, *, params: dict[str, str] | None = None, **options: object) -> object:
        more = {"max-keys": "4"} if params and "list-type" in params else {}
        return ask(method, url, params={**(params or {}), **more}, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bucket._http, "request", in_pages)
    assert sorted(bucket.keys(f"{name}/")) == sorted(keys)
    assert sorted(bucket.folders(f"{name}/")) == ["f & 0", "f & 1", "f & 2"]
    bucket.delete([*keys[:2], "never was there"])
    assert sorted(bucket.keys(f"{name}/")) == sorted(keys[2:])
    bucket.delete_below(f"{name}/")
    assert not list(bucket.keys(f"{name}/"))  # while a store may go on listing empty folders
    bucket.delete([])


def test_store_that_keeps_conditions_is_accepted_and_nothing_is_left_in_it(bucket: Bucket) -> None:
    bucket.require_conditions()
    assert not list(bucket.keys("probe/"))


def test_store_that_ignores_conditions_is_refused(link: Link) -> None:
    link.set(ignores_conditions=True)
    with pytest.raises(InstanceError, match="does not keep conditions"):
        through(link, seconds=3).require_conditions()


@pytest.mark.parametrize("mode", ["cut", "frozen", "unavailable"])
def test_store_that_does_not_answer_is_named_in_the_error(link: Link, mode: str) -> None:
    link.set(mode)  # type: ignore[arg-type]
    bucket = through(link, seconds=0.3)
    for ask in (
        lambda: bucket.get("a"),
        lambda: bucket.put("a", {}, None),
        lambda: list(bucket.keys("a")),
        lambda: bucket.delete(["a"]),
    ):
        with pytest.raises(BucketUnavailable, match=rf"The bucket at http://127.0.0.1:{link.port}/{BUCKET} "):
            ask()


def test_credentials_that_are_wrong_are_said_to_be(link: Link) -> None:
    with pytest.raises(BucketUnavailable, match="refuses the credentials. Check AWS_ACCESS_KEY_ID."):
        through(link, secret="another").get("a")


def test_write_whose_answer_was_lost_succeeds_if_it_was_made(
    link: Link, bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is an error if it was not."""
    near = through(link, seconds=0.5)
    ask = near._http.request

    def lossy(method: str, url: str, **options: object) -> object:
        link.set("muted" if method == "PUT" else "open")
        return ask(method, url, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(near._http, "request", lossy)
    assert near.put(name, {"n": 1}, None) == bucket.get(name)

    def losing(method: str, url: str, **options: object) -> object:
        link.set("cut" if method == "PUT" else "open")
        return ask(method, url, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(near._http, "request", losing)
    with pytest.raises(BucketUnavailable):
        near.put(name, {"n": 2}, bucket.get(name))
    assert bucket.get(name) == Stored({"n": 1}, bucket.get(name).etag)  # type: ignore[union-attr]
