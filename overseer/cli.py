"""The commands of `overseer`. All but `serve` are also commands of the Flask app (`flask --app app …`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import Flask
from flask.cli import ScriptInfo, with_appcontext

from overseer import config
from overseer.config import ConfigError
from overseer.domain.errors import InstanceError, NoSuchOverseer, OverseerExists, StorageError
from overseer.domain.text import Invalid
from overseer.storage.backup import BackupError
from overseer.storage.backup import backup as make_backup
from overseer.storage.check import check as check_files
from overseer.storage.instance_lock import room_ids
from overseer.web.extensions import overseer
from overseer.web.password import hashed

if TYPE_CHECKING:
    from overseer.cluster.bucket import Bucket
    from overseer.cluster.replicas import Daemon
    from overseer.rooms.imports import Imports

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


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_appcontext
def import_files(files: tuple[Path, ...]) -> None:
    """Import the conversations in FILES, exports of other programs or of Overseer. No server may be running."""
    try:
        overseer().open()
        imports = overseer().imports
        directory = imports.new_directory()
        links = [directory / str(number) for number in range(len(files))]
        for link, file in zip(links, files, strict=True):
            link.symlink_to(file.absolute())  # nothing is copied
        import_id = imports.start(directory, [(link, file.name) for link, file in zip(links, files, strict=True)])
        shown = 0
        while not imports.wait(import_id, 0.2):
            shown = _echo_lines(imports, import_id, shown)
        _echo_lines(imports, import_id, shown)
        done = imports.find(import_id)
        overseer().close()
    except (InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(done.sentence)
    if done.count("failed") or not done.count("imported") + done.count("skipped"):
        sys.exit(1)


def _echo_lines(imports: Imports, import_id: str, after: int) -> int:
    """Print the lines of a report after line `after`, and return the number of the last one."""
    for line in imports.lines(import_id, after=after):
        name = line.name or line.place
        if line.outcome == "imported":
            click.echo(f"imported {name}: {line.messages} message{'s' * (line.messages != 1)}. {line.reason}".rstrip())
        elif line.outcome == "failed":
            place = f" ({line.place})" if line.place and line.name else ""
            click.echo(f"failed {name}: {line.reason}{place}", err=True)
        after = line.number
    return after


@click.command()
@click.argument("name")
@click.option("--no-password", is_flag=True, help="Let everybody in who uses this machine, and nobody else.")
@with_appcontext
def add(name: str, no_password: bool) -> None:
    """Make the Overseer NAME, for a server with OVERSEER_MULTI=1. A server may be running."""
    from overseer.multi.directory import INVALID_NAME, NAME, Directory

    try:
        if not NAME.fullmatch(name):
            raise Invalid(INVALID_NAME)
        password = "" if no_password else _new_password(f"Password of {name}")
        if (bucket := _bucket()) is not None:
            from overseer.cluster.node import create_overseer

            create_overseer(bucket, name, password)
        else:
            Directory(overseer().directory).add(name, password)
    except (Invalid, OverseerExists, InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Made {name}. Its address ends with /o/{name}/.")


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
def remove(name: str, yes: bool) -> None:
    """Delete the Overseer NAME with all its rooms. A server may be running."""
    from overseer.multi.directory import Directory

    try:
        if (bucket := _bucket()) is not None:
            from overseer.cluster import operations

            operations.where(bucket, name)
            _confirm(f"Delete {name} and all its rooms for good?", yes)
            operations.remove(bucket, name)
            click.echo(f"Deleted {name} and all its rooms.")
            return
        directory = Directory(overseer().directory)
        rooms = len(room_ids(directory.require(name)))
        _confirm(f"Delete {name} and its {_rooms(rooms)} for good?", yes)
        directory.remove(name)
    except (NoSuchOverseer, InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Deleted {name} and its {_rooms(rooms)}.")


@click.command()
def check_bucket() -> None:
    """Check that the bucket of OVERSEER_BUCKET can be used for a cluster: that it keeps conditions on writes."""
    try:
        _require_bucket().require_conditions()
    except (InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo("The bucket can be used.")


@click.command()
@click.argument("address", required=False)
def drain(address: str | None) -> None:
    """Let the node at ADDRESS, by default OVERSEER_NODE, give all Overseers up, and take none until it is restarted."""
    from overseer.cluster import operations

    address = address or config.NODE.read(os.environ)
    if not address:
        raise click.ClickException("Give the address of the node, or set OVERSEER_NODE.")
    try:
        operations.drain(_require_bucket(), address)
    except (InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{address} gives its Overseers up within seconds.")


@click.command()
@click.argument("name")
def where(name: str) -> None:
    """Print which node has the Overseer NAME."""
    from overseer.cluster import operations

    try:
        place = operations.where(_require_bucket(), name)
    except (NoSuchOverseer, InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    if not place.address:
        click.echo(f"Nobody has {name} open (epoch {place.epoch}).")
    else:
        click.echo(f"{place.address} (epoch {place.epoch}){'' if place.is_live else ', which does not answer'}")


@click.command()
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--no-password", is_flag=True, help="Let everybody in who uses the machine of its node.")
def upload(name: str, directory: Path, no_password: bool) -> None:
    """Bring the instance DIRECTORY of a single machine into the cluster as NAME. Stop its server first."""
    from overseer.cluster import operations
    from overseer.multi.directory import INVALID_NAME, NAME, PASSWORD_FILE

    try:
        if not NAME.fullmatch(name):
            raise Invalid(INVALID_NAME)
        known = directory / PASSWORD_FILE
        password = known.read_text(encoding="utf-8").strip("\r\n") if known.exists() else ""
        if not known.exists() and not no_password:
            password = _new_password(f"Password of {name}")
        rooms = operations.upload(
            _require_bucket(), _daemon(), name, directory.absolute(), password, _progress("Copying file")
        )
    except (Invalid, OverseerExists, InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{name} is in the cluster, with {_rooms(rooms)}. {directory} was not changed.")


@click.command()
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
def download(name: str, directory: Path) -> None:
    """Copy the Overseer NAME out of the cluster into DIRECTORY, which must be new or empty: as a backup, or to move."""
    from overseer.cluster import operations

    try:
        rooms = operations.download(_require_bucket(), _daemon(), name, directory.absolute())
    except (NoSuchOverseer, InstanceError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Copied {name}, {_rooms(rooms)}, into {directory}.")


@click.command()
def hash_password() -> None:
    """Print the hash of a password, for OVERSEER_PASSWORD or the file of OVERSEER_PASSWORD_FILE."""
    click.echo(_new_password("Password"))


def _bucket() -> Bucket | None:
    """Return the bucket of the cluster, if one is configured."""
    from overseer.application import new_bucket

    try:
        return new_bucket() if config.BUCKET.read(os.environ) else None
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def _require_bucket() -> Bucket:
    if (bucket := _bucket()) is None:
        raise click.ClickException("Set OVERSEER_BUCKET to the URL of the bucket of the cluster.")
    return bucket


def _daemon() -> Daemon:
    from overseer.cluster.replicas import Daemon

    return Daemon(config.LITESTREAM.read(os.environ))


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


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


COMMANDS = (
    backup,
    check,
    reindex,
    import_files,
    hash_password,
    add,
    remove,
    check_bucket,
    drain,
    where,
    upload,
    download,
)
for command in COMMANDS:
    main.add_command(command)
