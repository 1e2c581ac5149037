"""`overseer add` and `overseer remove`, with and without a server."""

from __future__ import annotations

from pathlib import Path

import requests
from click.testing import Result

from overseer import create_app
from overseer.multi.directory import Directory
from overseer.web.password import Password
from tests.support.server import StartServer

PASSWORDS = "swordfish\nswordfish\n"


def run(instance: Path, *arguments: str, typed: str = "") -> Result:
    app = create_app(instance, multi=False)
    return app.test_cli_runner().invoke(args=arguments, input=typed)


def test_add_makes_an_overseer_with_a_password(instance: Path) -> None:
    done = run(instance, "add", "kitchen", typed=PASSWORDS)
    assert done.exit_code == 0 and "Its address ends with /o/kitchen/." in done.output
    directory = Directory(instance)
    assert directory.names() == ["kitchen"] and Password(directory.password("kitchen")).matches("swordfish")
    assert "swordfish" not in done.output
    again = run(instance, "add", "kitchen", typed=PASSWORDS)
    assert again.exit_code == 1 and "There is an Overseer of this name already." in again.output
    assert run(instance, "add", "Kitchen", "--no-password").exit_code == 1
    assert run(instance, "add", "cellar", "--no-password").exit_code == 0
    assert directory.password("cellar") == ""


def test_password_that_cannot_be_used_makes_none(instance: Path) -> None:
    done = run(instance, "add", "kitchen", typed="scrypt:1\nscrypt:1\n")
    assert done.exit_code == 1 and "is not a complete one" in done.output
    assert Directory(instance).names() == []


def test_remove_asks_and_deletes(instance: Path) -> None:
    run(instance, "add", "kitchen", "--no-password")
    assert run(instance, "remove", "kitchen", typed="n\n").exit_code == 1
    assert Directory(instance).names() == ["kitchen"]
    done = run(instance, "remove", "kitchen", typed="y\n")
    assert done.exit_code == 0 and "Deleted kitchen and its 0 rooms." in done.output
    assert Directory(instance).names() == [] and not (instance / "o" / "kitchen").exists()
    gone = run(instance, "remove", "kitchen", "--yes")
    assert gone.exit_code == 1 and "There is no Overseer of this name." in gone.output


def test_commands_work_while_the_server_runs(instance: Path, start_server: StartServer) -> None:
    server = start_server(OVERSEER_MULTI="1")
    assert requests.get(f"{server.url}/o/kitchen/", timeout=20).status_code == 404
    assert run(instance, "add", "kitchen", "--no-password").exit_code == 0
    made = requests.post(f"{server.url}/o/kitchen/rooms", {"name": "Soup"}, timeout=20)
    assert made.status_code == 201
    done = run(instance, "remove", "kitchen", "--yes")
    assert done.exit_code == 0 and "its 1 room." in done.output
    assert requests.get(server.url + made.headers["Location"], timeout=20).status_code == 404
    backup = run(instance, "check")
    assert backup.exit_code == 1 and "OVERSEER_INSTANCE" in backup.output
