"""The product with its sinks: a refused call is a line in a file and a line of a batch."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from support.product import Product, Settings, accounts
from support.waiting import until

pytestmark = pytest.mark.integration


def test_a_cdr_reaches_its_sinks(tmp_path: Path) -> None:
    taken: list[bytes] = []

    class Billing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known = self.headers["authorization"] == "Bearer t0ken"
            taken.extend(body.splitlines() if known else ())
            self.send_response(204 if known else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is for failures."""

    billing = ThreadingHTTPServer(("127.0.0.1", 0), Billing)
    Thread(target=billing.serve_forever, daemon=True).start()
    environment = {
        "PBX_CDR_FILE_DIR": str(tmp_path / "cdr"),
        "PBX_CDR_HTTP_URL": f"http://127.0.0.1:{billing.server_port}/cdrs",
        "PBX_CDR_HTTP_TOKEN": "t0ken",
    }
    with Product(Settings(accounts(2), environment=environment)) as product:
        with product.phone("2000") as caller:
            invite = caller.dial("2001")
            caller.ack(invite, caller.expect(480))
        cdr = product.cdr(caller="2000")
        path = tmp_path / "cdr" / "cdr.jsonl"
        until(lambda: taken and path.exists() and path.read_bytes(), timeout_s=10, what="CDR in both sinks")
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [cdr]
    assert [json.loads(line) for line in taken] == [cdr]
    billing.shutdown()
    billing.server_close()
