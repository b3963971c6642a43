# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton keys`: a key is printed once, its hash is stored, and the rest of the file stays."""

import stat
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastapi_triton.cli.main import app
from fastapi_triton.middleware.auth import keys

runner = CliRunner()


def command(*arguments: str, file: Path) -> Result:
    return runner.invoke(app, ["keys", *arguments, "--file", str(file)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some keys.toml"


def test_a_key_is_printed_once_and_only_its_hash_is_stored(file: Path) -> None:
    secret = command("add", "alice", file=file).stdout.strip()
    assert len(secret) == len("ftk_") + 43  # 256 bits in base64
    assert secret not in file.read_text()
    found = keys.parse(file.read_text()).find(secret.encode())
    assert found is not None
    assert (found.caller.name, found.caller.scopes) == ("key:alice", {"infer"})
    assert found.caller.priority == "interactive"
    ours = keys.parse(file.read_text() + 'priority = "batch"\n').find(secret.encode())
    assert ours is not None
    assert ours.caller.priority == "batch"
    assert command("add", "bob", file=file).stdout.strip() != secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_scopes_and_limits_of_a_key_are_stored_and_listed(file: Path) -> None:
    done = command(
        *("add", "ci", "--scope", "infer", "--scope", "v2", "--requests-per-minute", "90"),
        *("--burst", "5", "--max-in-flight", "2", "--priority", "batch"),
        file=file,
    )
    assert done.exit_code == 0
    entry = tomllib.loads(file.read_text())["keys"]["ci"]
    del entry["sha256"]
    limits = {"requests_per_minute": 90.0, "burst": 5, "max_in_flight": 2}
    assert entry == {"scopes": ["infer", "v2"], **limits, "priority": "batch"}
    command("add", "plain", "--requests-per-minute", "60", file=file)
    assert command("list", file=file).stdout == (
        "ci\tinfer,v2\t90 a minute, 5 at once\t2 in flight\tbatch\nplain\tinfer\t60 a minute, 10 at once\n"
    )


def test_the_expiry_of_a_key_is_listed(file: Path) -> None:
    before = datetime.now(UTC)
    for name, duration, hours in (("a", "12h", 12), ("b", "90d", 90 * 24), ("c", "8w", 56 * 24)):
        assert command("add", name, "--expires", duration, file=file).exit_code == 0
        end = keys.entries(file.read_text())[name].expires
        assert end is not None
        assert timedelta(seconds=-1) < end - before - timedelta(hours=hours) < timedelta(minutes=5)
    file.write_text(file.read_text() + f'[keys.old]\nsha256 = "{"0" * 64}"\nexpires = 2024-02-29T12:00:00+02:00\n')
    listed = command("list", file=file).stdout.splitlines()
    assert [line.split("\t")[2].split()[0] for line in listed] == ["expires", "expires", "expires", "EXPIRED"]
    assert listed[-1] == "old\tinfer\tEXPIRED 2024-02-29T10:00:00Z"


def test_revoke_deletes_one_key_and_keeps_comments(file: Path) -> None:
    for name in ("one", "two", "three"):
        command("add", name, file=file)
    file.write_text(file.read_text().replace("[keys.two]", '# of the second floor\n[ keys."two" ]  # until May'))
    file.chmod(0o640)
    before = keys.entries(file.read_text())
    assert command("revoke", "two", file=file).exit_code == 0
    after = keys.entries(file.read_text())
    assert after == {name: before[name] for name in ("one", "three")}
    assert "# of the second floor" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert "has no key two" in command("revoke", "two", file=file).output


def test_revoke_does_not_change_a_file_with_an_unknown_layout(file: Path) -> None:
    line = f'keys = {{ x = {{ sha256 = "{"0" * 64}" }} }}\n'
    file.write_text(line)
    done = command("revoke", "x", file=file)
    assert done.exit_code == 2
    assert "by hand" in done.output
    assert file.read_text() == line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "x y"], "A name consists of letters"),
        (["add", "x", "--scope", "everything"], "There is no scope 'everything'"),
        (["add", "x", "--priority", "high"], "There is no priority 'high'"),
        (["add", "x", "--burst", "3"], "burst has no effect without"),
        (["add", "x", "--max-in-flight", "0"], "max_in_flight"),
        (["add", "x", "--requests-per-minute", "nan"], "requests_per_minute"),
        *(
            (["add", "x", "--expires", each], "is not a duration")
            for each in ("90", "0d", "-1d", "1.5h", "1y", "999999d", "")
        ),
        (["list"], "No such file"),
        (["revoke", "x"], "No such file"),
    ],
)
def test_invalid_options_exit_with_2_and_write_nothing(file: Path, arguments: list[str], words: str) -> None:
    done = command(*arguments, file=file)
    assert done.exit_code == 2
    assert words in done.output
    assert not file.exists()


def test_a_second_key_with_the_same_name_is_rejected(file: Path) -> None:
    command("add", "x", file=file)
    before = file.read_text()
    done = command("add", "x", file=file)
    assert done.exit_code == 2
    assert "already" in done.output
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[keys.x", "not TOML"),
        ("[keys.x]\n", "sha256"),
        ('[keys.x]\nsha256 = "abc"', "sha256"),
        (f'[keys.x]\nsha256 = "{"0" * 64}"\nscope = ["v2"]', "scope"),
        (f'[keys.x]\nsha256 = "{"0" * 64}"\nscopes = ["v3"]', "scopes"),
        (f'[keys.x]\nsha256 = "{"0" * 64}"\nrequests_per_minute = 0', "requests_per_minute"),
        (f'[keys.x]\nsha256 = "{"0" * 64}"\n[keys.y]\nsha256 = "{"0" * 64}"', "same key"),
        (f'[keys."x\\n2026 INFO"]\nsha256 = "{"0" * 64}"', "keys"),
        (f'[keys.x]\nsha256 = "{"0" * 64}"\nexpires = 2027-01-01', "expires"),
        (f'[keys.x]\nsha256 = "{"0" * 64}"\nexpires = 2027-01-01T00:00:00', "expires"),
        ("[key.x]", "key"),
    ],
)
def test_an_invalid_file_of_keys_exits_with_a_reason(text: str, words: str) -> None:
    with pytest.raises(keys.KeyFileError, match=words):
        keys.parse(text)
