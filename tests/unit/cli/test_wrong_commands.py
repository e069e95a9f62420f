"""Wrong commands, as a table: each ends with its exit code and a sentence that names the cause and what mends it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pbx_cli import __main__ as program
from pbx_cli.app import app
from pbx_cli.errors import AlreadyThere, CliError
from pbx_cli.up import report
from pbx_cli.up.options import AccountWish
from pbx_cli.verbs import account, relays
from pbx_cli.verbs.api import reason_of

# arguments, exit code, words of the message
WRONG: list[tuple[list[str], int, str]] = [
    (["up", "--sip", "5060"], 2, "--sip"),
    (["up", "--sip", "0.0.0.0:0"], 2, "port 0 has no meaning here"),
    (["up", "--sip", "0.0.0.0:70000"], 2, "--sip"),
    (["up", "--http", "x"], 2, "--http"),
    (["up", "--relay-ports", "40000-30000"], 2, "must lie between 1024 and 65535"),
    (["up", "--relay-ports", "30000"], 2, "is not FIRST-LAST"),
    (["up", "--relay-ports", "30000-30003"], 2, "hold 8 aligned ports"),
    (["up", "--relay-ports", "5000-6000"], 2, "lies inside --relay-ports"),
    (["up", "--replicas", "0"], 2, "is not between 1 and 64"),
    (["up", "--replicas", "65"], 2, "is not between 1 and 64"),
    (["up", "--account", ":secret"], 2, "USER must be 1 to 64"),
    (["up", "--account", "10 04:x"], 2, "USER must be 1 to 64"),
    (["up", "--domain", "-x-"], 2, "is no domain name"),
    (["up", "--sip-tls", "0.0.0.0:5061"], 2, "--tls-cert"),
    (["up", "--no-such-option"], 2, "No such option"),
    (["cdr", "list", "--limit", "0"], 2, "should be greater than or equal to"),
    (["cdr", "list", "--limit", "x"], 2, "valid integer"),
    (["cdr", "list", "--since", "soon"], 2, "--since: 'soon' is no time (for example 2026-01-31T12:00:00Z)"),
    (["cdr", "list", "--until", "31.1.2026"], 2, "--until: '31.1.2026' is no time"),
    (["cdr", "list", "--since", "2026-02-01", "--until", "2026-01-01"], 2, "--until must be later than --since"),
    (["cdr", "list", "--talk-min", "-1"], 2, "should be greater than or equal to"),
    (["cdr", "export", "--format", "xml"], 2, "is not one of 'jsonl', 'csv'"),
    (["cdr", "export", "--resume"], 2, "--resume: name the file with --output"),
    (["cdr", "export", "--resume", "--output", "/nowhere/x"], 2, "nothing to resume"),
    (["cdr", "show"], 2, "Missing argument 'CALL'"),
    (["cdr", "shew", "x"], 2, "No such command 'shew'"),
    (["calls", "--http", "http://127.0.0.1:9"], 1, "it refuses: nothing listens there. Is `sip-pbx up` running?"),
    (["calls", "--http", "ftp://127.0.0.1"], 1, "--http takes http:// or https://"),
    (["calls", "--http", "http://no.such.host.invalid"], 1, "cannot reach the API"),
    (["calls", "--data", "/nowhere", "--http", "127.0.0.1:9"], 1, "it refuses"),
    (["status", "--http", "http://127.0.0.1:9"], 1, ""),
    (["account", "list", "--data", "/nowhere"], 1, "name its directory with --data, or its gRPC address"),
    (["account", "add", "a:b"], 2, "must not hold a colon"),
    (["account", "add", ""], 2, "USER must be 1 to 64"),
    (["account", "add", "1004", "--domain", "no domain"], 2, "is no domain name"),
    (["account", "add", "1004", "--password-stdin"], 2, "no password there"),
    (["account", "set", "1004"], 2, "nothing to set: --calls or --name"),
    (["account", "set", "1004", "--calls", "-1"], 2, "should be greater than or equal to"),
    (["account", "set-password", "a:b"], 2, "must not hold a colon"),
    (["account"], 2, "Usage"),
    (["relay", "status", "--data", "/nowhere"], 1, "PBX_RELAYS"),
    (["relay", "drain", "x", "--deadline", "-5"], 2, "should be greater than or equal to"),
    (["record"], 2, "Missing argument 'CALL'"),
    (["webhook", "add"], 2, "Missing argument 'url'"),
    (["webhook", "attempts", "w", "--limit", "0"], 2, "should be greater than or equal to"),
    (["token", "add", "x"], 2, "Missing option '--scope'"),
    (["token", "rotate", "x", "--old-valid-s", "-1"], 2, "should be greater than or equal to"),
    (["events", "tail", "--lines", "101"], 2, "should be less than or equal to"),
    (["doctor", "--sip", "host:port"], 2, "is not host:port"),
    (["doctor", "--relay-ports", "x"], 2, "is not FIRST-LAST"),
    (["doctor", "--data", "/nowhere"], 1, "has no endpoints.json: is `sip-pbx up` running with --data /nowhere?"),
    (["nonsense"], 2, "No such command 'nonsense'"),
]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PBX_API", "PBX_DATA", "PBX_REGISTRAR_ADDRESS", "PBX_RELAYS", "PBX_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("argv", "code", "words"), WRONG, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else ""
)
def test_wrong_commands_name_cause_and_remedy(argv: list[str], code: int, words: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, argv, env={"PBX_DATA": str(tmp_path)}, input="")
    message = done.output + (str(done.exception) if isinstance(done.exception, CliError) else "")
    ended = done.exception.code if isinstance(done.exception, CliError) else done.exit_code
    assert (ended, words in " ".join(message.split())) == (code, True), message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1)", "expired"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate", "SSL_CERT_FILE"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch", "another name"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "http://"),
        ("[Errno -2] Name or service not known", "no such host"),
        ("[Errno 101] Network is unreachable", "no route"),
        ("[Errno 99] Cannot assign requested address", "IPv6"),
        ("something new", "something new. Is `sip-pbx up` running?"),
    ],
)
def test_what_libraries_say_becomes_what_people_can_mend(text: str, words: str) -> None:
    assert words in reason_of(OSError(text))


def test_an_account_that_is_there_is_not_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class There:
        def create(self, *_: Any, **__: Any) -> dict[str, Any]:
            raise AlreadyThere("there is an account 1004@pbx.local already")

    monkeypatch.setattr(account, "_registrar", lambda data: There())
    done = CliRunner().invoke(app, ["account", "add", "1004", "--data", str(tmp_path)])
    assert "account set-password 1004` changes its password" in str(done.exception)


def test_stopping_a_recording_that_is_none_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PBX_RELAYS", "a:1,b:2")
    monkeypatch.setattr(relays, "stop_recording", lambda address, call: address == "b:2" and call == "c1")
    assert CliRunner().invoke(app, ["record", "c1", "--stop", "--data", str(tmp_path)]).exit_code == 0
    done = CliRunner().invoke(app, ["record", "c2", "--stop", "--data", str(tmp_path)])
    assert "call c2 is not recorded" in str(done.exception)


def test_a_full_disk_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    monkeypatch.setattr(program, "_run", full)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert (ended.value.code, capsys.readouterr().err) == (
        1,
        "sip-pbx: cannot write /data/x: the disk is full; free some space and try again\n",
    )


def test_who_has_enough_of_the_output_gets_no_complaint() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pbx_cli.__main__ import main; import sys; sys.argv=['x','--help']; main()"],
        stdout=(full := os.open("/dev/full", os.O_WRONLY)),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(full)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.3, 0.6, 1.5])
def test_ctrl_c_at_any_moment_leaves_no_traceback(after_s: float, tmp_path: Path) -> None:
    """While it imports, while it waits for an answer: the server here never answers."""
    with _silent_server() as port:
        argv = [sys.executable, "-m", "pbx_cli", "calls", "--http", f"127.0.0.1:{port}", "--data", str(tmp_path)]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            child.wait(after_s)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    if after_s >= 0.3:  # before, Python itself may still be on its way to us
        assert "Traceback" not in said
        assert child.returncode in (130, -signal.SIGINT)


class _Silent:
    def __init__(self) -> None:
        self.over = threading.Event()
        over = self.over

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                over.wait(30)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> int:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return int(self.server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


_silent_server = _Silent


def test_the_version_is_shown() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("sip-pbx 0.")


def test_shells_can_complete_it() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output


@pytest.fixture
def records(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """An API with five records in pages of two, that fails once at the third page."""
    asked: list[str] = []
    failures = ["once"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cursor = int(self.path.rpartition("cursor=")[2]) if "cursor=" in self.path else 0
            asked.append(self.path)
            fails = cursor == 4 and bool(failures)
            if fails:
                failures.clear()
            items = [{"id": str(n), "call_id": str(n), "caller": "=x"} for n in range(cursor, min(cursor + 2, 5))]
            body = json.dumps({"items": items, "next": str(cursor + 2) if cursor < 4 else None}).encode()
            self.send_response(503 if fails else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_that_was_broken_off_goes_on(form: str, records: tuple[str, list[str]], tmp_path: Path) -> None:
    base, asked = records
    path = tmp_path / "out"
    argv = ["cdr", "export", "--format", form, "--output", str(path), "--http", base, "--user", "1004"]
    broken = CliRunner().invoke(app, argv)
    assert isinstance(broken.exception, CliError)
    assert "--resume` goes on there" in broken.output
    with path.open("a", encoding="utf-8") as file:
        file.write('{"half a rec')  # what a crash leaves
    assert "was broken off: --resume goes on" in str(CliRunner().invoke(app, argv).exception)
    other = CliRunner().invoke(app, [*argv[:-1], "1008", "--resume"])
    assert "had other options" in str(other.exception)
    done = CliRunner().invoke(app, [*argv, "--resume"])
    assert (done.exit_code, "1 records" in done.output) == (0, True), done.output
    lines = path.read_text(encoding="utf-8").splitlines()
    if form == "csv":
        assert lines.pop(0).startswith("id,call_id,revision,caller,")
        assert [line.split(",")[0] for line in lines] == list("01234")
        assert "'=x" in lines[0], "no formula for a spreadsheet"
    else:
        assert [json.loads(line)["id"] for line in lines] == list("01234")
    assert not path.with_name("out.resume").exists()
    assert all("user=1004" in each for each in asked)


def test_up_tells_which_accounts_are_there_from_before() -> None:
    from pbx_cli.up.options import UpOptions
    from pbx_runtime.address import Listen

    options = UpOptions(
        sip=Listen("127.0.0.1", 5060),
        advertise="",
        http=Listen("127.0.0.1", 8080),
        relay_ports=(30000, 30999),
        data=Path("var"),
        accounts=(),
        domain="pbx.local",
        replicas=1,
        as_json=False,
    )
    wishes = [AccountWish("2001", "x")]
    assert "from before  1004, 1008  (`sip-pbx account remove` ends one)" in report.text(
        options, "127.0.0.1", wishes, ["1004", "1008"]
    )
    assert "and 4 more" in report.text(options, "127.0.0.1", wishes, [str(n) for n in range(12)])
    assert "from before" not in report.text(options, "127.0.0.1", wishes)
