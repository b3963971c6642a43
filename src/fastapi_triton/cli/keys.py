# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton keys`: creates, lists and revokes API keys. A key is printed once and never stored."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, get_args

import typer

from fastapi_triton.cli.errors import fail
from fastapi_triton.core import atomic_file, file_lock
from fastapi_triton.core.context import Priority
from fastapi_triton.middleware.auth import keys
from fastapi_triton.middleware.auth.keys import KeyFileError
from fastapi_triton.middleware.auth.rate_limit import default_burst
from fastapi_triton.middleware.auth.scopes import SCOPES

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

_HEAD = """\
# API keys. `fastapi-triton keys add NAME` adds one; a running server applies changes within seconds.
# Only hashes are stored: a lost key cannot be recovered. Create a new one.
"""
_NO_NAME = "A name consists of letters, digits, - and _, and begins with a letter or a digit."
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

File = Annotated[
    Path,
    typer.Option("--file", envvar="FASTAPI_TRITON_API_KEYS_FILE", help="The file of API keys.", show_default=False),
]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The owner's name, which logs and metrics show.")],
    file: File,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help=f"What it allows: {', '.join(SCOPES)}. Repeat for several. By default infer."),
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(help="Inference requests per minute, per process; by default no limit.")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="Burst of these requests; by default ten seconds' worth.")] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(help="Requests at once, running and waiting; by default no limit.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option(help="interactive (the default), or batch: its requests wait for interactive ones.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Time until it expires: 12h, 90d or 8w; by default never.")
    ] = None,
) -> None:
    """Create a key and print it once."""
    if not re.fullmatch(keys.NAME_PATTERN, name):
        fail(_NO_NAME)
    secret = keys.new_secret()
    lines = [f"[keys.{name}]", f'sha256 = "{keys.digest(secret)}"']
    lines.append(f"scopes = [{', '.join(_quoted_scope(each) for each in scope or ['infer'])}]")
    for field, value in (
        ("requests_per_minute", requests_per_minute),
        ("burst", burst),
        ("max_in_flight", max_in_flight),
        ("priority", None if priority is None else _quoted_priority(priority)),
        ("expires", None if expires is None else _rfc3339(_expiry(expires))),
    ):
        if value is not None:
            lines.append(f"{field} = {value}")
    block = "\n".join(lines) + "\n"
    with _access(file, is_locked=True):
        text = file.read_text(encoding="utf-8") if file.exists() else _HEAD
        known = keys.entries(text)
        if name in known:
            fail(f"{file} already has a key {name}. Revoke it first, or choose another name.")
        after = text + ("" if text.endswith("\n") else "\n") + "\n" + block
        try:
            keys.parse(after)
        except KeyFileError as error:
            fail(f"The key is invalid: {error}")
        _write(file, after)
    typer.echo(
        f"Scopes of {name}: {', '.join(scope or ['infer'])}. Save the key now; it is not stored and not shown again:",
        err=True,
    )
    typer.echo(secret)


@app.command("list")
def list_keys(file: File) -> None:
    """List all keys with their scopes and limits."""
    with _access(file):
        known = keys.entries(file.read_text(encoding="utf-8"))
    for name, entry in known.items():
        columns = [name, ",".join(entry.scopes)]
        if entry.requests_per_minute is not None:
            burst = entry.burst or default_burst(entry.requests_per_minute)
            columns.append(f"{entry.requests_per_minute:g} a minute, {burst} at once")
        if entry.max_in_flight is not None:
            columns.append(f"{entry.max_in_flight} in flight")
        if entry.priority != "interactive":
            columns.append(entry.priority)
        if entry.expires is not None:
            has_expired = entry.expires <= datetime.now(UTC)
            columns.append(f"{'EXPIRED' if has_expired else 'expires'} {_rfc3339(entry.expires)}")
        typer.echo("\t".join(columns))
    if not known:
        typer.echo("There are no keys.", err=True)


@app.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="The name of the key.")], file: File) -> None:
    """Delete a key."""
    with _access(file, is_locked=True):
        text = file.read_text(encoding="utf-8")
        known = keys.entries(text)
        if name not in known:
            fail(f"{file} has no key {name}.")
        after = _without(text, name)
        # The lines were cut as text: check that the other keys are unchanged.
        try:
            is_right = keys.entries(after) == {each: entry for each, entry in known.items() if each != name}
        except KeyFileError:
            is_right = False
        if not is_right:
            fail(f"{file} has a layout that this command cannot edit. Delete the key {name} by hand.")
        _write(file, after)
    typer.echo(f"{name} is revoked. Running servers reject it within seconds.", err=True)


def _without(text: str, name: str) -> str:
    """The text without the lines of this key, from its header to the next header."""
    kept, is_of_key = [], False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            is_of_key = (
                re.fullmatch(rf'\[\s*keys\s*\.\s*"?{re.escape(name)}"?\s*\]', line.partition("#")[0].strip())
                is not None
            )
        if not is_of_key:
            kept.append(line)
    return "".join(kept)


def _quoted_scope(scope: str) -> str:
    if scope not in SCOPES:
        fail(f"There is no scope {scope!r}. Choose from {', '.join(SCOPES)}.")
    return f'"{scope}"'


def _quoted_priority(priority: str) -> str:
    known = get_args(Priority)
    if priority not in known:
        fail(f"There is no priority {priority!r}. Choose from {', '.join(known)}.")
    return f'"{priority}"'


def _expiry(duration: str) -> datetime:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", duration)
    if found is None:
        fail(f"{duration!r} is not a duration. Write hours, days or weeks: 12h, 90d, 8w.")
    return datetime.now(UTC) + int(found[1]) * _UNITS[found[2]]


def _rfc3339(moment: datetime) -> str:
    """The time in RFC 3339, as TOML writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(file: Path, text: str) -> None:
    """Replace the file, keeping its mode and owner."""
    target = file.resolve()
    before = target.stat() if target.exists() else None
    with atomic_file.replacing(target, mode=before.st_mode & 0o777 if before else 0o600) as new:
        new.write(text.encode())
        if before and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(new.fileno(), before.st_uid, before.st_gid)


@contextmanager
def _access(file: Path, *, is_locked: bool = False) -> Iterator[None]:
    """Exit with a reason if the file cannot be used. `is_locked`: lock it against other commands, before writing."""
    try:
        with file_lock.held(file.resolve().parent, wait=True) if is_locked else nullcontext():
            yield
    except OSError as error:
        fail(f"{file}: {error.strerror}.")
    except (KeyFileError, UnicodeDecodeError) as error:
        fail(f"{file} is invalid: {error}")
