"""The password and how often it may be tried."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.security import generate_password_hash as quickly_hashed

from overseer.web.password import CLIENTS, HASH, Password, RateLimiter, hashed
from tests.support.server import DEADLINE, ROOT

QUICK = "scrypt:1024:8:1"


@pytest.mark.parametrize("secret", ["correct horse", "ü€😀", " ", "x" * 1024, "scrypt:1:2:3$a$b", "a:b"])
def test_only_the_password_is_right(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """Given in plain or as its hash, and to the letter."""
    if secret != "correct horse":  # for one it is as slow as it is meant to be
        monkeypatch.setattr(
            "overseer.web.password.generate_password_hash", lambda given, method: quickly_hashed(given, QUICK)
        )
    others = ("", secret + " ", secret + "\0", secret[:-1], secret.swapcase() + "y", "\ud800")
    for password in (Password(secret), Password(hashed(secret))):
        assert password.is_right(secret) and password.is_right(secret)
        for other in others:
            assert not password.is_right(other), other


def test_a_hash_is_no_password() -> None:
    """Who reads the file that holds it is not let in by it. Two hashes of one password differ."""
    made = hashed("correct horse")
    assert not Password(made).is_right(made)
    assert made != hashed("correct horse") and "correct" not in made


def test_what_is_too_long_is_wrong_and_costs_nothing() -> None:
    """The slow check never sees it."""
    seen: list[str] = []
    password = Password("x", check=lambda _, tried: bool(seen.append(tried)))
    assert not password.is_right("x" * 1025) and not seen
    assert not password.is_right("x" * 1024) and seen


def test_nothing_holds_the_password() -> None:
    """Neither in plain nor where a right one is remembered."""
    password = Password("correct horse")
    assert password.is_right("correct horse")
    assert "correct horse" not in repr(vars(password))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_a_burst_there_is_one_try_in_a_while() -> None:
    """And after a long while the whole burst again."""
    clock = Clock()
    tries = RateLimiter(burst=3, seconds=10, clock=clock)
    assert [tries.wait("a") for _ in range(5)] == [0, 0, 0, 10, 10]
    clock.now += 4
    assert tries.wait("a") == 6
    clock.now += 6
    assert [tries.wait("a") for _ in range(2)] == [0, 10]
    clock.now += 1000
    assert [tries.wait("a") for _ in range(4)] == [0, 0, 0, 10]


def test_a_right_try_does_not_count_and_clients_do_not_hinder_each_other() -> None:
    """But an IPv6 client is its whole /64, and one in the clothes of IPv6 is what it is."""
    tries = RateLimiter(burst=2, seconds=10, clock=Clock())
    for _ in range(9):
        assert tries.wait("192.0.2.1") == 0
        tries.give_back("192.0.2.1")
    assert [tries.wait("192.0.2.1") for _ in range(3)] == [0, 0, 10]
    assert tries.wait("::ffff:192.0.2.1") == 10
    assert tries.wait("192.0.2.2") == 0
    assert [tries.wait(f"2001:db8::{n}") for n in range(1, 4)] == [0, 0, 10]
    assert tries.wait("2001:db8:0:1::1") == 0


def test_all_together_have_a_limit_too() -> None:
    """Many addresses are not many guesses, and are remembered in bounded memory."""
    clock = Clock()
    tries = RateLimiter(burst_of_all=50, seconds_of_all=2, clock=clock)
    assert [tries.wait(f"10.0.{n}.1") for n in range(51)] == [0] * 50 + [2]
    many = RateLimiter(burst_of_all=10**9, clock=clock)
    for n in range(CLIENTS + 500):
        many.wait(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(many._paid) == CLIENTS


@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=60))
def test_no_pattern_of_tries_gets_more_than_the_rate(tried: list[tuple[float, bool]]) -> None:
    """In any stretch of time there are at most the burst and one for each interval; it is never waited for in vain."""
    clock = Clock()
    tries = RateLimiter(burst=4, seconds=15, clock=clock)
    given_at = []
    for pause, patient in tried:
        clock.now += pause
        wait = tries.wait("a")
        assert wait <= 15
        if wait and patient:
            clock.now += wait + 1e-6
            wait = tries.wait("a")
            assert wait == 0
        if not wait:
            given_at.append(clock.now)
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            assert last - first + 1 <= 4 + (given_at[last] - given_at[first]) / 15 + 1e-6


def test_a_hash_is_all_that_is_printed() -> None:
    """So that it can be written into a file, also by who mistypes the password first."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "hash-password"],
        cwd=ROOT,
        input="secret\nsecert\nsecret\nsecret\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert HASH.fullmatch(done.stdout.removesuffix("\n")), done.stdout
    assert "do not match" in done.stderr and Password(done.stdout.strip()).is_right("secret")
