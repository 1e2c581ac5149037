"""What a person does at a terminal: `flask --app app backup DIR`, `check` and `hash-password`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from overseer.storage.backup import BackupError
from overseer.storage.backup import backup as make_backup
from overseer.storage.check import CheckError
from overseer.storage.check import check as look_through
from overseer.web.password import hashed

MANY = 200  # rooms from which on a person sees it go on


def init_app(app: Flask) -> None:
    """Let `flask --app app` know them."""
    app.cli.add_command(backup)
    app.cli.add_command(check)
    app.cli.add_command(hash_password)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@with_appcontext
def backup(directory: Path) -> None:
    """Copy all rooms into DIRECTORY, which is new or empty. A server may run meanwhile."""
    try:
        with _progress("Copying") as progress:
            done = make_backup(_instance(), directory.absolute(), progress=progress)
    except BackupError as error:
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
    """Read every file of the instance, or of the backup in DIRECTORY, and say what is wrong and what to do."""
    try:
        with _progress("Checking") as progress:
            report = look_through((directory or _instance()).absolute(), progress=progress)
    except CheckError as error:
        raise click.ClickException(str(error)) from None
    for finding in report.findings:
        click.echo(finding.sentence)
    if report.server:
        click.echo(f"The server runs (process {report.server}); what it was changing just then was looked at again.")
    faults = sum(finding.fault for finding in report.findings)
    said = f"{faults} fault{'s' * (faults != 1)}." if faults else "nothing is wrong."
    click.echo(f"Checked {_rooms(report.rooms)}: {said}")
    if faults:
        sys.exit(1)


@click.command()
def hash_password() -> None:
    """Print a hash to be set as OVERSEER_PASSWORD, or kept in OVERSEER_PASSWORD_FILE."""
    click.echo(hashed(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)))


def _instance() -> Path:
    directory: Path = current_app.extensions["overseer"].directory
    return directory


def _rooms(count: int) -> str:
    return f"{count:,} room{'s' * (count != 1)}"


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A line on a terminal that says how far it is, if it takes long."""
    shown = sys.stderr.isatty()

    def tell(done: int, of: int) -> None:
        if shown and of >= MANY and (done % 10 == 0 or done == of):
            end = "\n" if done == of else ""
            click.echo(f"\r{doing} room {done:,} of {of:,}{end}", err=True, nl=False)

    yield tell
