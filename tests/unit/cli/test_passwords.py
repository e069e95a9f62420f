"""Passwords come by files, stdin and prompts; those that stood in a command line are taken out of it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.up import accounts_file
from pbx_cli.up.accounts_file import CHARACTERS_MAX, parse_accounts, read_accounts
from pbx_cli.up.argv import password_spans
from pbx_cli.up.options import AccountWish
from pbx_cli.verbs.account import PASSWORD_CHARACTERS_MAX, _given_password


@pytest.mark.parametrize(
    ("arguments", "hidden"),
    [
        (["sip-pbx", "up", "--account", "1004:s3cret"], ["s3cret"]),
        (["sip-pbx", "up", "--account=1004:a:b", "--account", "1008:p w"], ["a:b", "p w"]),
        (["sip-pbx", "up", "--account", "1004", "--sip", "h:5060"], []),
        (["sip-pbx", "up", "--account", "1004:"], []),
        (["sip-pbx", "up", "--accounts-file", "a:b", "--domain=x:y"], []),
        (["sip-pbx", "--account", "--account", "--account", "u:p"], ["p"]),
        (["--account"], []),
        (["--account", "ü:pässword"], ["pässword"]),
    ],
)
def test_passwords_are_found_in_a_command_line(arguments: list[str], hidden: list[str]) -> None:
    line = b"".join(argument.encode() + b"\0" for argument in arguments)
    assert [line[offset : offset + length].decode() for offset, length in password_spans(line)] == hidden


HIDES = """
import sys
from pbx_cli.up.argv import hide_passwords
assert hide_passwords()
print(open("/proc/self/cmdline").read().replace(chr(0), " "), sys.argv[2])
"""


def test_a_process_takes_them_out_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDES, "--account", "1004:s3cret", "--account=1008:hunter2", "--sip", "h:1"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    shown, _, kept = done.stdout.rpartition(" ")
    assert shown.split()[-5:] == ["--account", "1004:******", "--account=1008:*******", "--sip", "h:1"], done
    assert kept.strip() == "1004:s3cret", "the process itself still knows"


def test_an_accounts_file() -> None:
    text = "# ours\n\n1004:a:b \n1008\n 1009 \r\n1010:#x\n"
    assert parse_accounts("f", text) == (
        AccountWish("1004", "a:b "),
        AccountWish("1008", ""),
        AccountWish("1009", ""),
        AccountWish("1010", "#x"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1004:hunter2\nno user:hunter2\n", "line 2"),
        ("1004:hunter2\n1004:hunter3\n", "line 2: 1004 stands there twice"),
        ("# nothing\n", "names no account"),
        ("", "names no account"),
        (":hunter2", "line 1"),
    ],
)
def test_a_wrong_accounts_file_is_told_by_its_line(text: str, message: str) -> None:
    with pytest.raises(CliError, match=message) as refused:
        parse_accounts("f", text)
    assert "hunter" not in str(refused.value)
    assert refused.value.code == EXIT_USAGE


def test_where_an_accounts_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accounts"
    path.write_text("1004:pw\n")
    assert read_accounts(str(path)) == (AccountWish("1004", "pw"),)
    monkeypatch.setattr("sys.stdin", io.StringIO("1008:pw\n"))
    assert read_accounts("-") == (AccountWish("1008", "pw"),)
    for wrong, message in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "directory"),
        (Path("/dev/zero"), "more than"),
    ):
        with pytest.raises(CliError, match=message):
            read_accounts(str(wrong))
    path.write_bytes(b"1004:\xff\n")
    with pytest.raises(CliError, match="UTF-8"):
        read_accounts(str(path))
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * (CHARACTERS_MAX + 1)))
    with pytest.raises(CliError, match="more than"):
        read_accounts("-")


def test_a_file_that_others_can_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(accounts_file._log, "warning", lambda text, **_: told.append(text), raising=False)
    path = tmp_path / "accounts"
    path.write_text("1004:pw\n")
    path.chmod(0o600)
    accounts_file.warn_if_readable(str(path))
    accounts_file.warn_if_readable("-")
    assert told == []
    path.chmod(0o640)
    accounts_file.warn_if_readable(str(path))
    assert "chmod 600" in told[0]


def test_a_password_of_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret\nsecond line\n")
    assert _given_password(False, path, False) == "s3cret"
    assert _given_password(False, None, False) == ""
    monkeypatch.setattr("typer.prompt", lambda *_, hide_input, confirmation_prompt: "typed")
    assert _given_password(False, None, True) == "typed"
    for wrong in (("", "no password"), ("x" * (PASSWORD_CHARACTERS_MAX + 1), "longer")):
        path.write_text(wrong[0])
        with pytest.raises(CliError, match=wrong[1]):
            _given_password(False, path, False)
    with pytest.raises(CliError, match="cannot read"):
        _given_password(False, tmp_path / "none", False)
    with pytest.raises(CliError, match="one of"):
        _given_password(True, path, False)
