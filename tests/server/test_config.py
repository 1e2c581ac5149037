"""What the environment says: numbers that can be used, or a sentence that says which cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from overseer.config import LEAST, MOST, ConfigError, access, limits, model_settings
from overseer.domain.addresses import LOOPBACK
from overseer.llm.choice import OLLAMA, ModelSettings
from overseer.llm.openai import Timeouts
from overseer.rooms.chat_room import Limits
from overseer.web.password import hashed

READ: dict[str, Callable[[Mapping[str, str]], float]] = {
    "OVERSEER_CONTEXT_TOKENS": lambda given: limits(given).context_tokens,
    "OVERSEER_MAX_ANSWER_CHARS": lambda given: limits(given).answer_chars,
    "OVERSEER_TOOL_SECONDS": lambda given: limits(given).tool_seconds,
    "OVERSEER_FIRST_BYTE_SECONDS": lambda given: model_settings(given).timeouts.first,
    "OVERSEER_SILENCE_SECONDS": lambda given: model_settings(given).timeouts.gap,
    "OVERSEER_ANSWER_SECONDS": lambda given: model_settings(given).timeouts.total,
}
NAMES = sorted(READ)


def read(name: str, given: str) -> float:
    """What is made of a variable that is set to this."""
    return READ[name]({name: given})


def test_an_empty_environment_means_the_usual() -> None:
    """Nothing has to be set."""
    assert limits({}) == Limits()
    assert model_settings({}) == ModelSettings(timeouts=Timeouts())
    assert model_settings({}).ollama_url == OLLAMA


def test_words_are_taken_as_they_are() -> None:
    """The address, the key and the name."""
    found = model_settings({"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"})
    assert (found.base_url, found.api_key, found.name) == ("http://h/v1", "k", "m")
    assert model_settings({"OLLAMA_HOST": "box:1234"}).ollama_url == "http://box:1234/v1"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_number_is_the_usual_one(name: str, blank: str) -> None:
    """As a compose file sets what nobody has filled in."""
    assert read(name, blank) == READ[name]({})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", ["8000", " 8000 ", "8_000", "8,000", "008000"])
def test_a_whole_number_is_taken(name: str, given: str) -> None:
    """As people write it, and for its own setting only."""
    assert read(name, given) == 8000
    assert [other for other in NAMES if READ[other]({name: given}) != READ[other]({})] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_the_least_and_the_most_are_taken(name: str) -> None:
    """And nothing beyond them."""
    least = LEAST.get(name, 1)
    assert read(name, str(least)) == least
    assert read(name, str(MOST)) == MOST
    for allows_remote in (least - 1, MOST + 1, 10**30):
        with pytest.raises(ConfigError, match=name):
            read(name, str(allows_remote))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "given",
    ["-1", "0", "+5", "1.5", "1e4", "0x100", "nan", "inf", "many", "8000 tokens", "８０００", "٨٠٠٠", "5\x00", "\udcff"]
    + ["9" * 5000, "9" * 100_000],
    ids=lambda given: repr(given[:12]),
)  # fmt: skip
def test_what_is_no_number_is_refused_in_a_sentence(name: str, given: str) -> None:
    """Which variable it is and what would do; the server does not start with a traceback."""
    with pytest.raises(ConfigError, match=rf"^{name}=.*whole number"):
        read(name, given)


@pytest.mark.parametrize("given", ["1,5", "10,00"])
def test_a_decimal_comma_makes_no_other_number(given: str) -> None:
    """Commas are for thousands: 1,5 seconds are not fifteen."""
    with pytest.raises(ConfigError):
        read("OVERSEER_SILENCE_SECONDS", given)


@pytest.mark.parametrize("name", NAMES)
def test_the_sentence_says_what_would_do(name: str) -> None:
    """Also to who asked for too much: that is a whole number, and at least the least."""
    with pytest.raises(ConfigError, match=f"{LEAST.get(name, 1)}"):
        read(name, "0")
    with pytest.raises(ConfigError, match=rf"cannot be used.*({MOST}|{MOST:,})"):
        read(name, str(MOST + 1))


@given(name=st.sampled_from(NAMES), given=st.one_of(st.text(max_size=20), st.integers().map(str), st.floats().map(str)))
@example(name="OVERSEER_CONTEXT_TOKENS", given="²")
@settings(deadline=None)
def test_any_value_is_a_number_in_its_limits_or_refused(name: str, given: str) -> None:
    """Nothing else is raised, and nothing else comes out."""
    try:
        found = read(name, given)
    except ConfigError as error:
        assert str(error).startswith(f"{name}=")
        return
    assert LEAST.get(name, 1) <= found <= MOST and found == int(found)


@pytest.mark.parametrize(
    ("settings", "password"),
    [
        ({}, ""),
        ({"OVERSEER_PASSWORD": ""}, ""),
        ({"OVERSEER_PASSWORD": " a b "}, " a b "),
        ({"OVERSEER_PASSWORD_FILE": "{}/one"}, "from a file "),
        ({"OVERSEER_PASSWORD_FILE": "{}/one", "OVERSEER_PASSWORD": ""}, "from a file "),
    ],
)
def test_a_password_is_taken_as_it_is(tmp_path: Path, settings: dict[str, str], password: str) -> None:
    """But for the line end that an editor leaves in a file."""
    (tmp_path / "one").write_text("from a file \r\n")
    assert access({name: value.format(tmp_path) for name, value in settings.items()}).password == password


@pytest.mark.parametrize(
    "settings",
    [
        {"OVERSEER_PASSWORD": "a", "OVERSEER_PASSWORD_FILE": "{}/one"},
        {"OVERSEER_PASSWORD_FILE": "{}/none"},
        {"OVERSEER_PASSWORD_FILE": "{}"},
        {"OVERSEER_PASSWORD_FILE": "{}/empty"},
        {"OVERSEER_PASSWORD_FILE": "{}/junk"},
        {"OVERSEER_PASSWORD_FILE": "{}/zero"},
        {"OVERSEER_PASSWORD": "x" * 1025},
        {"OVERSEER_PASSWORD": "\udcff"},
        {"OVERSEER_PASSWORD": "secret\nsecret"},
        {"OVERSEER_PASSWORD_FILE": "{}/lines"},
        {"OVERSEER_PASSWORD": "scrypt:32768:8:1secret"},  # what a shell leaves of a hash in double quotes
        {"OVERSEER_PASSWORD": hashed("secret")[:-1]},
        {"OVERSEER_HOSTS": "http://chat.example"},
        {"OVERSEER_HOSTS": "chat.example:8000"},
        {"OVERSEER_HOSTS": "*"},
        {"OVERSEER_HOSTS": "chat.example, -x"},
        {"OVERSEER_HOSTS": "a..b"},
        {"OVERSEER_TRUSTED_PROXIES": "proxy.example"},
        {"OVERSEER_TRUSTED_PROXIES": "10.0.0.0/33"},
        {"OVERSEER_TRUSTED_PROXIES": "*"},
    ],
)
def test_a_door_that_cannot_be_set_up_is_told(tmp_path: Path, settings: dict[str, str]) -> None:
    """By a sentence with the name of the setting, and never with the password."""
    (tmp_path / "one").write_text("secret")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "junk").write_bytes(b"\xff\xfe")
    (tmp_path / "zero").write_bytes(b"secret\0")
    (tmp_path / "lines").write_text("secret\n\nsecret\n")
    with pytest.raises(ConfigError) as refused:
        access({name: value.format(tmp_path) for name, value in settings.items()})
    assert str(refused.value).endswith(".") and "secret" not in str(refused.value)
    assert any(name in str(refused.value) for name in (*settings, "password"))


def test_hosts_and_proxies_are_lists() -> None:
    """With commas or blanks between; names as browsers send them."""
    found = access(
        {
            "OVERSEER_HOSTS": "Chat.Example., bücher.example [::2] 192.168.1.5",
            "OVERSEER_TRUSTED_PROXIES": "10.1.2.3/8,::1",
        }
    )
    assert found.hosts == LOOPBACK | {"chat.example", "xn--bcher-kva.example", "::2", "192.168.1.5"}
    assert list(map(str, found.proxies)) == ["10.0.0.0/8", "::1/128"]
    assert found.allows_remote and not access({}).allows_remote


@pytest.mark.parametrize(
    ("host", "added"),
    [
        ("127.0.0.1", set()),
        ("192.168.1.5", {"192.168.1.5"}),
        ("Chat", {"chat"}),
        ("0.0.0.0", set()),
        ("::", set()),
        ("", set()),
    ],
)
def test_a_server_answers_under_the_name_it_listens_on(host: str, added: set[str]) -> None:
    """But one that listens everywhere answers under those it was told."""
    assert access({}).with_host(host).hosts == LOOPBACK | added
