"""Settings from the environment: values that can be used, or an error that names the setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.config import LEAST, MOST, ConfigError, access, limits, model_settings, tab_limits
from overseer.domain.addresses import LOOPBACK
from overseer.llm.choice import OLLAMA, ModelSettings
from overseer.rooms.chat_room import Limits
from overseer.server.connection_limits import Limits as TabLimits
from overseer.web.password import hashed

READ: dict[str, Callable[[Mapping[str, str]], float]] = {
    "OVERSEER_CONTEXT_TOKENS": lambda env: limits(env).context_tokens,
    "OVERSEER_MAX_ANSWER_CHARS": lambda env: limits(env).answer_chars,
    "OVERSEER_TOOL_SECONDS": lambda env: limits(env).tool_seconds,
    "OVERSEER_FIRST_BYTE_SECONDS": lambda env: model_settings(env).timeouts.first,
    "OVERSEER_SILENCE_SECONDS": lambda env: model_settings(env).timeouts.gap,
    "OVERSEER_ANSWER_SECONDS": lambda env: model_settings(env).timeouts.total,
    "OVERSEER_MAX_TABS": lambda env: tab_limits(env).total,
    "OVERSEER_MAX_TABS_EACH": lambda env: tab_limits(env).per_client,
}
NAMES = sorted(READ)


def test_config_of_an_empty_environment_has_the_defaults() -> None:
    assert limits({}) == Limits()
    assert tab_limits({}) == TabLimits(total=10_000, per_client=200)
    assert model_settings({}) == ModelSettings()
    assert model_settings({}).ollama_url == OLLAMA
    assert not access({}).password and not access({}).allows_remote


def test_model_settings_are_taken_as_they_are() -> None:
    found = model_settings({"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"})
    assert (found.base_url, found.api_key, found.name) == ("http://h/v1", "k", "m")
    assert model_settings({"OLLAMA_HOST": "box:1234"}).ollama_url == "http://box:1234/v1"
    assert model_settings({"OPENAI_BASE_URL": " http://[::1]:8080/v1\n"}).base_url == "http://[::1]:8080/v1"
    assert model_settings({"OPENAI_BASE_URL": " ", "OLLAMA_HOST": ' "0.0.0.0" '}) == ModelSettings()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "localhost:8080/v1", "ftp://127.0.0.1/v1", "http://[", "http:///v1", "http://127.0.0.1:port/v1"]
    + [
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1:0/v1",
        '"http://127.0.0.1:8080/v1"',
        "http://a b/v1",
        "http://\x00",
    ]
    + ["127.0.0.1:8080", "https//x", "me:hunter2@host:1/v1", "x//me:hunter2@host", "http://" + "x" * 9000],
)
def test_base_url_that_cannot_work_is_rejected_without_its_password(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^OPENAI_BASE_URL=.*one like http://127\.0\.0\.1:8080/v1, without quotes"
    ) as one:
        model_settings({"OPENAI_BASE_URL": url})
    assert "hunter2" not in str(one.value) and len(str(one.value)) < 200


def test_ollama_host_that_cannot_work_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"^OLLAMA_HOST=.*is not an address of a server"):
        model_settings({"OLLAMA_HOST": "a b"})


@pytest.mark.parametrize("name", NAMES)
def test_number_within_its_bounds_sets_its_own_setting_only(name: str) -> None:
    """A blank number is the default, as when a compose file passes an empty variable on."""
    for text in (" 8000 ", "8_000", "8,000", "008000"):
        assert READ[name]({name: text}) == 8000
        assert [other for other in NAMES if READ[other]({name: text}) != READ[other]({})] == [name]
    assert READ[name]({name: " \t"}) == READ[name]({})
    least = LEAST.get(name, 1)
    assert [READ[name]({name: str(number)}) for number in (least, MOST)] == [least, MOST]


BAD_NUMBERS = [
    "0",
    "-1",
    "+5",
    "1.5",
    "1,5",
    "10,00",
    "1e4",
    "0x100",
    "nan",
    "many",
    "8000 tokens",
    "８０００",
    "5\x00",
]


@pytest.mark.parametrize("name", NAMES)
def test_number_that_is_invalid_is_rejected_with_its_bounds(name: str) -> None:
    """A comma separates thousands: `1,5` is neither 1.5 nor 15."""
    least = LEAST.get(name, 1)
    for text in (*BAD_NUMBERS, "\udcff", "9" * 100_000, str(least - 1), str(MOST + 1)):
        with pytest.raises(ConfigError, match=rf"^{name}=.*cannot be used.*whole number from {least} to {MOST}"):
            READ[name]({name: text})


@given(name=st.sampled_from(NAMES), text=st.one_of(st.text(max_size=20), st.integers().map(str), st.floats().map(str)))
@example(name="OVERSEER_CONTEXT_TOKENS", text="²")
def test_any_number_is_within_its_bounds_or_rejected(name: str, text: str) -> None:
    try:
        found = READ[name]({name: text})
    except ConfigError as error:
        assert str(error).startswith(f"{name}=")
        return
    assert LEAST.get(name, 1) <= found <= MOST and found == int(found)


def test_password_is_taken_without_the_line_end_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from a file \r\n")
    assert access({"OVERSEER_PASSWORD": " a b "}).password == " a b "
    assert access({"OVERSEER_PASSWORD_FILE": str(file), "OVERSEER_PASSWORD": ""}).password == "from a file "


@pytest.mark.parametrize(
    "settings",
    [
        {"OVERSEER_PASSWORD": "a", "OVERSEER_PASSWORD_FILE": "{}/good"},
        *({"OVERSEER_PASSWORD_FILE": f"{{}}/{name}"} for name in ("missing", "empty", "binary", "nul", "lines")),
        {"OVERSEER_PASSWORD": "x" * 1025},
        {"OVERSEER_PASSWORD": "\udcff"},
        {"OVERSEER_PASSWORD": "scrypt:32768:8:1secret"},  # what a shell makes of a hash between double quotes
        {"OVERSEER_PASSWORD": hashed("secret")[:-1]},
        *({"OVERSEER_HOSTS": hosts} for hosts in ("http://chat.example", "chat.example:8000", "*", "a.example, -x")),
        *({"OVERSEER_TRUSTED_PROXIES": proxies} for proxies in ("proxy.example", "10.0.0.0/33")),
    ],
)
def test_access_setting_that_is_invalid_is_rejected_without_the_password(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    files = {
        "good": b"secret",
        "empty": b"\n",
        "binary": b"\xff\xfe",
        "nul": b"secret\0",
        "lines": b"secret\n\nsecret\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as rejected:
        access({name: value.format(tmp_path) for name, value in settings.items()})
    assert str(rejected.value).endswith(".") and "secret" not in str(rejected.value)
    assert any(name in str(rejected.value) for name in (*settings, "password"))


def test_hosts_and_proxies_are_lists() -> None:
    """Commas or blanks separate entries. Host names are as browsers send them."""
    hosts = "Chat.Example., bücher.example [::2] 192.168.1.5"
    found = access({"OVERSEER_HOSTS": hosts, "OVERSEER_TRUSTED_PROXIES": "10.1.2.3/8,::1"})
    assert found.hosts == LOOPBACK | {"chat.example", "xn--bcher-kva.example", "::2", "192.168.1.5"}
    assert list(map(str, found.proxies)) == ["10.0.0.0/8", "::1/128"]
    assert found.allows_remote


def test_server_answers_under_the_address_it_listens_on() -> None:
    """A wildcard address adds no name."""
    for host, added in (("192.168.1.5", {"192.168.1.5"}), ("Chat", {"chat"}), ("0.0.0.0", set()), ("::", set())):
        assert access({}).with_host(host).hosts == LOOPBACK | added
