"""The settings, which are environment variables: one table of them, and what each part of the app reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Generic, TypeVar

from overseer.domain.addresses import LOOPBACK, MAX_PASSWORD_BYTES, Access, Network, parse_address, split_url
from overseer.llm.choice import OLLAMA, ModelSettings, ollama_url
from overseer.llm.openai import Timeouts
from overseer.rooms.chat_room import Limits
from overseer.server.connection_limits import Limits as TabLimits
from overseer.web.password import HASH

LEAST = {"OVERSEER_CONTEXT_TOKENS": 256, "OVERSEER_MAX_ANSWER_CHARS": 1}
MOST = 10**9
NUMBER = re.compile(r"\d{1,3}([_,]\d{3})*|\d{1,20}", re.ASCII)  # 32768, 32,768 or 32_768, but not 1,5
HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)
MAX_SHOWN_CHARS = 40  # of a rejected value, in the error
NOT_IN_URL = re.compile(r"[\s\x00-\x1f\x7f\"'<>`{}|\\^]")
USERINFO = re.compile(r"(?<=//)[^/]*@|^[^/]*@")

T = TypeVar("T")


class ConfigError(Exception):
    """A setting cannot be used. The message is a sentence that names the setting and says what to set it to."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """An environment variable: its default, its parser, a one-line description, and the flag that takes precedence.

    The parser is called with the name and the value; it raises ConfigError for a value that cannot be used, and returns
    None for one that is blank. `shown_default` is for people, where the default depends on something else.
    """

    name: str
    default: T
    parse: Callable[[str, str], T | None]
    description: str
    shown_default: str = ""
    flag: str = ""

    def read(self, environment: Mapping[str, str]) -> T:
        """Return the parsed value, or the default. Raises ConfigError."""
        value = self.parse(self.name, environment.get(self.name, ""))
        return self.default if value is None else value


def _text(name: str, given: str) -> str | None:
    return given or None


def _stripped(name: str, given: str) -> str | None:
    return given.strip() or None


def _switch(name: str, given: str) -> bool | None:
    given = given.strip().lower()
    if given in ("1", "true", "yes", "on"):
        return True
    if given in ("", "0", "false", "no", "off"):
        return None
    raise ConfigError(f"{name}={_shown(given)} cannot be used. Set it to 1 or 0.")


def _number(name: str, given: str) -> float | None:
    given = given.strip()
    if not given:
        return None
    least = LEAST.get(name, 1)
    number = int(re.sub("[_,]", "", given)) if NUMBER.fullmatch(given) else -1
    if not least <= number <= MOST:
        raise ConfigError(f"{name}={_shown(given)} cannot be used. Set it to a whole number from {least} to {MOST}.")
    return float(number)


def _shown(given: str) -> str:
    return given if len(given) <= MAX_SHOWN_CHARS else given[: MAX_SHOWN_CHARS - 1] + "…"


def _url(name: str, given: str) -> str | None:
    """Return the URL of a model server, if it can work."""
    given = given.strip()
    if not given:
        return None
    parts = split_url(given)
    usable = parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not usable or NOT_IN_URL.search(given):
        raise ConfigError(
            f"{name}={_shown(USERINFO.sub('', given))} is not an address of a server. "
            "Set it to one like http://127.0.0.1:8080/v1, without quotes."
        )
    return given


def _node_address(name: str, given: str) -> str | None:
    given = given.strip()
    if not given:
        return None
    parts = split_url(f"//{given}")
    if parts is None or not parts.hostname or not parts.port or parts.netloc != given or "@" in given:
        raise ConfigError(f"{name}={_shown(given)} is not an address of a node. Set it to one like 10.0.0.5:8000.")
    return given


def _bucket_url(name: str, given: str) -> str | None:
    url = _url(name, given)
    parts = split_url(url or "")
    if url is not None and (parts is None or not re.fullmatch(r"/[\w.-]+/?", parts.path, re.ASCII) or parts.query):
        raise ConfigError(
            f"{name}={_shown(USERINFO.sub('', given))} does not end with the name of a bucket. Set it to an address "
            "like https://s3.eu-central-1.amazonaws.com/my-bucket."
        )
    return url


def _ollama_url(name: str, given: str) -> str | None:
    given = given.strip().strip("\"'")  # as Ollama does
    return _url(name, ollama_url(given)) if given else None


def _host_names(name: str, given: str) -> frozenset[str]:
    return frozenset(_host_name(name, entry) for entry in _entries(given))


def _networks(name: str, given: str) -> tuple[Network, ...]:
    return tuple(_network(name, entry) for entry in _entries(given))


def _entries(given: str) -> list[str]:
    return [entry for entry in re.split(r"[\s,]+", given) if entry]


def _host_name(setting: str, given: str) -> str:
    if (address := parse_address(given.strip("[]"))) is not None:
        return str(address)
    try:
        name = given.lower().removesuffix(".").encode("idna").decode()
    except UnicodeError:
        name = ""
    if not HOST_NAME.fullmatch(name):
        raise ConfigError(f"{setting}={given[:80]} is not a host name. List names like chat.example, without http://.")
    return name


def _network(setting: str, given: str) -> Network:
    try:
        return ip_network(given, strict=False)
    except ValueError:
        raise ConfigError(
            f"{setting}={given[:80]} is not an address. List addresses or networks: 127.0.0.1, 10.0.0.0/8."
        ) from None


def _number_setting(name: str, default: float, description: str) -> Setting[float]:
    return Setting(name, default, _number, description, shown_default=str(int(default)))


HOST = Setting(
    "OVERSEER_HOST",
    "127.0.0.1",
    _stripped,
    "Address to listen on. Any other than a loopback address requires a password.",
    flag="--host",
)
PORT = Setting("OVERSEER_PORT", "8000", _text, "Port to listen on. 0 takes a free one.", flag="--port")
INSTANCE = Setting(
    "OVERSEER_INSTANCE",
    "",
    _text,
    "Directory of the data. Each server needs its own.",
    shown_default="instance/",
    flag="--instance",
)
MULTI = Setting(
    "OVERSEER_MULTI",
    False,
    _switch,
    "1 serves several Overseers, each below `/o/<name>/`: see [several Overseers](docs/overseers.md).",
    shown_default="0",
    flag="--multi",
)
BUCKET = Setting(
    "OVERSEER_BUCKET",
    "",
    _bucket_url,
    "URL of an S3-compatible bucket. The server is a node of a cluster then: see [many machines](docs/cluster.md).",
)
NODE = Setting(
    "OVERSEER_NODE",
    "",
    _node_address,
    "Address at which the proxy and the other nodes of a cluster reach this one.",
    shown_default="`OVERSEER_HOST` and `OVERSEER_PORT`",
)
LITESTREAM = Setting(
    "OVERSEER_LITESTREAM",
    "/run/overseer/litestream.sock",
    _stripped,
    "Control socket of the Litestream daemon on this machine, for a node of a cluster.",
)
LEASE_SECONDS = _number_setting(
    "OVERSEER_LEASE_SECONDS", 6, "Seconds after which the others may take over what a silent node of a cluster has."
)
BUCKET_KEY = Setting("AWS_ACCESS_KEY_ID", "", _stripped, "Access key of the bucket.")
BUCKET_SECRET = Setting("AWS_SECRET_ACCESS_KEY", "", _stripped, "Its secret. It is never shown, logged or stored.")
BUCKET_REGION = Setting("AWS_REGION", "us-east-1", _stripped, "Region of the bucket.")
PASSWORD = Setting(
    "OVERSEER_PASSWORD",
    "",
    _text,
    "Password that everybody logs in with, or its hash, as `hash-password` prints it.",
)
PASSWORD_FILE = Setting("OVERSEER_PASSWORD_FILE", "", _text, "File that contains the password or its hash.")
HOSTS = Setting(
    "OVERSEER_HOSTS",
    frozenset[str](),
    _host_names,
    "Host names of the server, in addition to the loopback names and `OVERSEER_HOST`.",
)
TRUSTED_PROXIES = Setting(
    "OVERSEER_TRUSTED_PROXIES",
    tuple[Network, ...](),
    _networks,
    "Addresses or networks of proxies whose `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` are used.",
)
BASE_URL = Setting(
    "OPENAI_BASE_URL",
    "",
    _url,
    "URL of any OpenAI-compatible server.",
    shown_default="https://api.openai.com/v1 if there is a key",
)
API_KEY = Setting("OPENAI_API_KEY", "", _text, "API key of that server. It is never shown, logged or stored.")
MODEL = Setting(
    "OPENAI_MODEL",
    "",
    _stripped,
    "Model of all rooms that are not set to another one.",
    shown_default="the first one that the server lists",
)
OLLAMA_HOST = Setting(
    "OLLAMA_HOST",
    OLLAMA,
    _ollama_url,
    "Address of an Ollama server, used if no other server is configured.",
    shown_default="127.0.0.1:11434",
)
CONTEXT_TOKENS = _number_setting(
    "OVERSEER_CONTEXT_TOKENS",
    Limits().context_tokens,
    "Tokens of a conversation that are sent to the model, at least 256.",
)
MAX_ANSWER_CHARS = _number_setting(
    "OVERSEER_MAX_ANSWER_CHARS", Limits().answer_chars, "Characters after which an answer is ended."
)
MAX_TABS = _number_setting("OVERSEER_MAX_TABS", TabLimits().total, "Tabs that may be connected at once.")
MAX_TABS_EACH = _number_setting(
    "OVERSEER_MAX_TABS_EACH",
    TabLimits().per_client,
    "Tabs of one client: an IPv4 address or an IPv6 /64 network. Loopback addresses, and so a proxy on this machine,"
    " are exempt.",
)
FIRST_BYTE_SECONDS = _number_setting(
    "OVERSEER_FIRST_BYTE_SECONDS", Timeouts().first, "Seconds until a model must begin. Local ones load slowly."
)
SILENCE_SECONDS = _number_setting(
    "OVERSEER_SILENCE_SECONDS", Timeouts().gap, "Seconds for which a model may be silent during an answer."
)
ANSWER_SECONDS = _number_setting("OVERSEER_ANSWER_SECONDS", Timeouts().total, "Seconds that one reply may take.")
TOOL_SECONDS = _number_setting("OVERSEER_TOOL_SECONDS", Limits().tool_seconds, "Seconds that one tool call may take.")

SETTINGS: tuple[Setting[Any], ...] = (
    HOST,
    PORT,
    INSTANCE,
    MULTI,
    PASSWORD,
    PASSWORD_FILE,
    HOSTS,
    TRUSTED_PROXIES,
    BASE_URL,
    API_KEY,
    MODEL,
    OLLAMA_HOST,
    CONTEXT_TOKENS,
    MAX_ANSWER_CHARS,
    MAX_TABS,
    MAX_TABS_EACH,
    FIRST_BYTE_SECONDS,
    SILENCE_SECONDS,
    ANSWER_SECONDS,
    TOOL_SECONDS,
    BUCKET,
    NODE,
    LITESTREAM,
    LEASE_SECONDS,
    BUCKET_KEY,
    BUCKET_SECRET,
    BUCKET_REGION,
)


def model_settings(environment: Mapping[str, str]) -> ModelSettings:
    """Return which model server to use, and how long to wait for it. Raises ConfigError."""
    return ModelSettings(
        base_url=BASE_URL.read(environment),
        api_key=API_KEY.read(environment),
        name=MODEL.read(environment),
        ollama_url=OLLAMA_HOST.read(environment),
        timeouts=Timeouts(
            first=FIRST_BYTE_SECONDS.read(environment),
            gap=SILENCE_SECONDS.read(environment),
            total=ANSWER_SECONDS.read(environment),
        ),
    )


def limits(environment: Mapping[str, str]) -> Limits:
    """Return the limits of answers and tool calls. Raises ConfigError."""
    return Limits(
        context_tokens=int(CONTEXT_TOKENS.read(environment)),
        answer_chars=int(MAX_ANSWER_CHARS.read(environment)),
        tool_seconds=TOOL_SECONDS.read(environment),
        loading_seconds=FIRST_BYTE_SECONDS.read(environment),
    )


def access(environment: Mapping[str, str]) -> Access:
    """Return who may use the app. Raises ConfigError."""
    return Access(
        password=_password(environment),
        hosts=LOOPBACK | HOSTS.read(environment),
        proxies=TRUSTED_PROXIES.read(environment),
    )


def tab_limits(environment: Mapping[str, str]) -> TabLimits:
    """Return how many tabs may be connected. Raises ConfigError."""
    return TabLimits(total=int(MAX_TABS.read(environment)), per_client=int(MAX_TABS_EACH.read(environment)))


def _password(environment: Mapping[str, str]) -> str:
    given, path = PASSWORD.read(environment), PASSWORD_FILE.read(environment)
    if given and path:
        raise ConfigError("OVERSEER_PASSWORD and OVERSEER_PASSWORD_FILE are both set. Keep one of them.")
    if path:
        given = _password_from_file(path)
    check_password(given)
    return given


def check_password(given: str) -> None:
    """Raise ConfigError for a password, or the hash of one, that cannot be used."""
    if given.startswith("scrypt:") and not HASH.fullmatch(given):
        raise ConfigError(
            "The password starts like a hash but is not a complete one: a shell replaces what follows a $. Put the "
            "hash between single quotes, or into a file that OVERSEER_PASSWORD_FILE names."
        )
    if "\n" in given or "\r" in given:
        raise ConfigError("The password, or its hash, must be a single line. Remove the other lines.")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise ConfigError("The password is not UTF-8 text. Choose another one.") from None
    if size > MAX_PASSWORD_BYTES or "\0" in given:
        raise ConfigError(f"A password has at most {MAX_PASSWORD_BYTES} bytes, none of them zero.")


def _password_from_file(path: str) -> str:
    try:
        password = Path(path).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8 text"
        raise ConfigError(f"OVERSEER_PASSWORD_FILE={path} cannot be read ({reason}).") from None
    if not password:
        raise ConfigError(f"OVERSEER_PASSWORD_FILE={path} is empty. Write the password into it, or its hash.")
    return password
