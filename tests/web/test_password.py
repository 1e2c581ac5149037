"""The password, and the rate limit for attempts."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.security import generate_password_hash

from overseer.web.password import HASH, MAX_CLIENTS, Password, RateLimiter, hashed
from tests.support.clock import Clock
from tests.support.server import DEADLINE, ROOT


@pytest.mark.parametrize("text", ["ü€😀", " ", "x" * 1024, "scrypt:1:2:3$a$b"])
def test_password_matches_only_itself(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Given in plain text or as its hash."""
    monkeypatch.setattr(
        "overseer.web.password.generate_password_hash",
        lambda given, method: generate_password_hash(given, "scrypt:1024:8:1"),  # faster
    )
    for password in (Password(text), Password(hashed(text))):
        assert password.matches(text) and password.matches(text)
        for other in ("", text + " ", text + "\0", text[:-1], text.swapcase() + "y", "\ud800"):
            assert not password.matches(other), other


def test_password_hash_is_salted_and_is_not_a_password() -> None:
    made = hashed("correct horse")
    password = Password(made)
    assert not password.matches(made) and password.matches("correct horse")
    assert made != hashed("correct horse") and "correct" not in made
    assert "correct horse" not in repr(vars(password))


def test_password_that_is_too_long_is_not_hashed() -> None:
    checked: list[str] = []

    def check(_: str, given: str) -> bool:
        checked.append(given)
        return False

    password = Password(hashed("x"), check=check)
    assert not password.matches("x" * 1025) and not checked
    assert not password.matches("x" * 1024) and checked


def test_rate_limiter_allows_a_burst_and_then_one_attempt_per_interval() -> None:
    clock = Clock()
    limiter = RateLimiter(burst=3, seconds=10, clock=clock)
    assert [limiter.acquire("a") for _ in range(5)] == [0, 0, 0, 10, 10]
    clock.now += 4
    assert limiter.acquire("a") == 6
    clock.now += 6
    assert [limiter.acquire("a") for _ in range(2)] == [0, 10]
    clock.now += 1000
    assert [limiter.acquire("a") for _ in range(4)] == [0, 0, 0, 10]


def test_rate_limiter_counts_each_client_and_each_ipv6_network() -> None:
    limiter = RateLimiter(burst=2, seconds=10, clock=Clock())
    for _ in range(9):
        assert limiter.acquire("192.0.2.1") == 0
        limiter.refund("192.0.2.1")
    assert [limiter.acquire("192.0.2.1") for _ in range(3)] == [0, 0, 10]
    assert limiter.acquire("::ffff:192.0.2.1") == 10
    assert limiter.acquire("192.0.2.2") == 0
    assert [limiter.acquire(f"2001:db8::{n}") for n in range(1, 4)] == [0, 0, 10]
    assert limiter.acquire("2001:db8:0:1::1") == 0


def test_rate_limiter_bounds_all_clients_together() -> None:
    """In attempts, and in memory."""
    clock = Clock()
    limiter = RateLimiter(total_burst=50, total_seconds=2, clock=clock)
    assert [limiter.acquire(f"10.0.{n}.1") for n in range(51)] == [0] * 50 + [2]
    many = RateLimiter(total_burst=10**9, clock=clock)
    for n in range(MAX_CLIENTS + 500):
        many.acquire(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(many._free_at) == MAX_CLIENTS


@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=60))
def test_rate_limiter_never_exceeds_its_rate(attempts: list[tuple[float, bool]]) -> None:
    """In any stretch of time there are at most the burst and one attempt per interval; waiting always helps."""
    clock = Clock()
    limiter = RateLimiter(burst=4, seconds=15, clock=clock)
    allowed_at = []
    for pause, waits in attempts:
        clock.now += pause
        wait = limiter.acquire("a")
        assert wait <= 15
        if wait and waits:
            clock.now += wait + 1e-6
            wait = limiter.acquire("a")
            assert wait == 0
        if not wait:
            allowed_at.append(clock.now)
    for first, start in enumerate(allowed_at):
        for last, end in enumerate(allowed_at[first:], first):
            assert last - first + 1 <= 4 + (end - start) / 15 + 1e-6


def test_hash_password_prints_nothing_but_the_hash() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "hash-password"],
        cwd=ROOT,
        input="secret\nsecert\nsecret\nsecret\n",
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        check=True,
    )
    assert HASH.fullmatch(done.stdout.removesuffix("\n")), done.stdout
    assert "do not match" in done.stderr and Password(done.stdout.strip()).matches("secret")
