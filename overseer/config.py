"""What the environment says of the model, of how much it may do, and of who is let in, and how many."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

from overseer.domain.addresses import LOOPBACK, MAX_PASSWORD_BYTES, Access, Network, parse_address
from overseer.llm.choice import ModelSettings, ollama_url
from overseer.llm.openai import Timeouts
from overseer.rooms.chat_room import Limits
from overseer.server.connection_limits import Limits as TabLimits
from overseer.web.password import HASH

LEAST = {"OVERSEER_CONTEXT_TOKENS": 256, "OVERSEER_MAX_ANSWER_CHARS": 1}
MOST = 10**9
NUMBER = re.compile(r"\d{1,3}([_,]\d{3})*|\d{1,20}", re.ASCII)  # 32768, 32,768 or 32_768, but not 1,5
HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)


class ConfigError(Exception):
    """A setting in the environment cannot be used; the message is a sentence that says which, and what would do."""


def model_settings(environment: Mapping[str, str]) -> ModelSettings:
    """OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL, OLLAMA_HOST, and the seconds to wait. Raises BadEnvironment."""
    usual = Timeouts()
    return ModelSettings(
        base_url=environment.get("OPENAI_BASE_URL", ""),
        api_key=environment.get("OPENAI_API_KEY", ""),
        name=environment.get("OPENAI_MODEL", ""),
        ollama_url=ollama_url(environment.get("OLLAMA_HOST", "")),
        timeouts=Timeouts(
            first=_number(environment, "OVERSEER_FIRST_BYTE_SECONDS", usual.first),
            gap=_number(environment, "OVERSEER_SILENCE_SECONDS", usual.gap),
            total=_number(environment, "OVERSEER_ANSWER_SECONDS", usual.total),
        ),
    )


def limits(environment: Mapping[str, str]) -> Limits:
    """OVERSEER_CONTEXT_TOKENS, OVERSEER_MAX_ANSWER_CHARS and OVERSEER_TOOL_SECONDS. Raises BadEnvironment."""
    usual = Limits()
    return Limits(
        context_tokens=int(_number(environment, "OVERSEER_CONTEXT_TOKENS", usual.context_tokens)),
        answer_chars=int(_number(environment, "OVERSEER_MAX_ANSWER_CHARS", usual.answer_chars)),
        tool_seconds=_number(environment, "OVERSEER_TOOL_SECONDS", usual.tool_seconds),
    )


def access(environment: Mapping[str, str]) -> Access:
    """OVERSEER_PASSWORD, OVERSEER_PASSWORD_FILE, OVERSEER_HOSTS, OVERSEER_TRUSTED_PROXIES. Raises BadEnvironment."""
    return Access(
        password=_password(environment),
        hosts=LOOPBACK | {_host(name) for name in _listed(environment, "OVERSEER_HOSTS")},
        proxies=tuple(map(_network, _listed(environment, "OVERSEER_TRUSTED_PROXIES"))),
    )


def tab_limits(environment: Mapping[str, str]) -> TabLimits:
    """OVERSEER_MAX_TABS and OVERSEER_MAX_TABS_EACH. Raises BadEnvironment."""
    usual = TabLimits()
    return TabLimits(
        total=int(_number(environment, "OVERSEER_MAX_TABS", usual.total)),
        per_client=int(_number(environment, "OVERSEER_MAX_TABS_EACH", usual.per_client)),
    )


def _number(environment: Mapping[str, str], name: str, usual: float) -> float:
    given = environment.get(name, "").strip()
    if not given:
        return usual
    least = LEAST.get(name, 1)
    number = int(re.sub("[_,]", "", given)) if NUMBER.fullmatch(given) else -1
    if not least <= number <= MOST:
        shown = given if len(given) <= 40 else given[:39] + "…"
        raise ConfigError(f"{name}={shown} cannot be used. Set it to a whole number from {least} to {MOST}.")
    return float(number)


def _password(environment: Mapping[str, str]) -> str:
    given, path = environment.get("OVERSEER_PASSWORD", ""), environment.get("OVERSEER_PASSWORD_FILE", "")
    if given and path:
        raise ConfigError("OVERSEER_PASSWORD and OVERSEER_PASSWORD_FILE are both set. Keep one of them.")
    if path:
        try:
            given = Path(path).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8 text"
            raise ConfigError(f"OVERSEER_PASSWORD_FILE={path} cannot be read ({why}).") from None
        if not given:
            raise ConfigError(f"OVERSEER_PASSWORD_FILE={path} is empty. Write the password into it, or its hash.")
    if given.startswith("scrypt:") and not HASH.fullmatch(given):
        raise ConfigError(
            "The password begins like a hash, but is no whole one: a shell replaces what follows a $. Put the hash "
            "between single quotes, or into a file that OVERSEER_PASSWORD_FILE names."
        )
    if "\n" in given or "\r" in given:
        raise ConfigError("A password is one line, and so is its hash. Take the other lines out.")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise ConfigError("OVERSEER_PASSWORD is not UTF-8 text. Choose another password.") from None
    if size > MAX_PASSWORD_BYTES or "\0" in given:
        raise ConfigError(f"A password has at most {MAX_PASSWORD_BYTES} bytes, none of them zero.")
    return given


def _listed(environment: Mapping[str, str], name: str) -> list[str]:
    return [entry for entry in re.split(r"[\s,]+", environment.get(name, "")) if entry]


def _host(given: str) -> str:
    if (address := parse_address(given.strip("[]"))) is not None:
        return str(address)
    try:
        name = given.lower().removesuffix(".").encode("idna").decode()
    except UnicodeError:
        name = ""
    if not HOST.fullmatch(name):
        raise ConfigError(
            f"OVERSEER_HOSTS={given[:80]} is no host name. List names like chat.example, without http://."
        )
    return name


def _network(given: str) -> Network:
    try:
        return ip_network(given, strict=False)
    except ValueError:
        raise ConfigError(
            f"OVERSEER_TRUSTED_PROXIES={given[:80]} is no address. List addresses or networks: 127.0.0.1, 10.0.0.0/8."
        ) from None
