"""The commands of `overseer`. All but `serve` are also commands of the Flask app (`flask --app app …`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from flask import Flask
from flask.cli import ScriptInfo, with_appcontext

from overseer import config
from overseer.config import ConfigError
from overseer.domain.errors import InstanceError, NoSuchOverseer, OverseerExists
from overseer.domain.text import Invalid
from overseer.storage.backup import BackupError
from overseer.storage.backup import backup as make_backup
from overseer.storage.check import check as check_files
from overseer.storage.instance_lock import room_ids
from overseer.web.extensions import overseer
from overseer.web.password import hashed

MIN_ROOMS_FOR_PROGRESS = 200


def create_app() -> Flask:
    """Return the app; an invalid setting ends the command with an error message."""
    from overseer.application import create_app

    try:
        return create_app(multi=False)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@click.group()
@click.version_option(package_name="overseer")
@click.pass_context
def main(context: click.Context) -> None:
    """Overseer: chat rooms with a language model."""
    context.obj = ScriptInfo(create_app=create_app, set_debug_flag=False)


@main.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Start the server; `overseer serve --help` lists its flags."""
    from overseer.serve import main as run

    sys.exit(run(arguments, program="overseer serve"))


def init_app(app: Flask) -> None:
    """Add the commands to the app."""
    for command in COMMANDS:
        app.cli.add_command(command)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@with_appcontext
def backup(directory: Path) -> None:
    """Copy all rooms into DIRECTORY, which must be new or empty. A server may be running."""
    try:
        done = make_backup(overseer().directory, directory.absolute(), progress=_progress("Copying"))
    except (BackupError, InstanceError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Copied {_rooms(done.rooms)}, {done.size:,} bytes, into {directory}.")
    for problem in done.problems:
        click.echo(problem, err=True)
    if done.problems:
        sys.exit(1)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@with_appcontext
def check(directory: Path | None) -> None:
    """Read every file of the instance, or of the backup in DIRECTORY, and report what is wrong and what to do."""
    try:
        report = check_files((directory or overseer().directory).absolute(), progress=_progress("Checking"))
    except InstanceError as error:
        raise click.ClickException(str(error)) from None
    for finding in report.findings:
        click.echo(finding.sentence)
    if report.server:
        click.echo(f"The directory is in use by {report.server}. What it was changing was checked again.")
    faults = sum(finding.fault for finding in report.findings)
    result = f"{faults} fault{'s' * (faults != 1)}." if faults else "nothing is wrong."
    click.echo(f"Checked {_rooms(report.rooms)}: {result}")
    if faults:
        sys.exit(1)


@click.command()
@with_appcontext
def reindex() -> None:
    """Build the search index anew from the rooms. No server may be running."""
    try:
        overseer().reindex(_progress("Indexing"))
    except InstanceError as error:
        raise click.ClickException(str(error)) from None
    click.echo("The search index is complete.")


@click.command()
@click.argument("name")
@click.option("--no-password", is_flag=True, help="Let everybody in who uses this machine, and nobody else.")
@with_appcontext
def add(name: str, no_password: bool) -> None:
    """Make the Overseer NAME, for a server with OVERSEER_MULTI=1. A server may be running."""
    from overseer.multi.directory import Directory

    try:
        password = "" if no_password else _new_password(f"Password of {name}")
        Directory(overseer().directory).add(name, password)
    except (Invalid, OverseerExists, InstanceError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Made {name}. Its address ends with /o/{name}/.")


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
def remove(name: str, yes: bool) -> None:
    """Delete the Overseer NAME with all its rooms. A server may be running."""
    from overseer.multi.directory import Directory

    directory = Directory(overseer().directory)
    try:
        rooms = len(room_ids(directory.require(name)))
        if not yes:
            click.confirm(f"Delete {name} and its {_rooms(rooms)} for good?", abort=True, err=True)
        directory.remove(name)
    except (NoSuchOverseer, InstanceError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Deleted {name} and its {_rooms(rooms)}.")


@click.command()
def hash_password() -> None:
    """Print the hash of a password, for OVERSEER_PASSWORD or the file of OVERSEER_PASSWORD_FILE."""
    click.echo(_new_password("Password"))


def _new_password(prompt: str) -> str:
    """Ask for a password twice, and return its hash."""
    given = click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True)
    try:
        config.check_password(given)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    return hashed(given)


def _rooms(count: int) -> str:
    return f"{count:,} room{'s' * (count != 1)}"


def _progress(activity: str) -> Callable[[int, int], None]:
    """Return a function that shows the progress on one line of a terminal, if there are many rooms."""
    is_terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if is_terminal and total >= MIN_ROOMS_FOR_PROGRESS and (done % 10 == 0 or done == total):
            end = "\n" if done == total else ""
            click.echo(f"\r{activity} room {done:,} of {total:,}{end}", err=True, nl=False)

    return show


COMMANDS = (backup, check, reindex, hash_password, add, remove)
for command in COMMANDS:
    main.add_command(command)
