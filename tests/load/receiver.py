"""A webhook receiver that may be killed at any moment: each delivery is in a file before it is answered.

`python -m load.receiver PORT FILE`; one JSON line for a delivery: its webhook-id and its body. What was answered
survives a SIGKILL, as it would in a receiver that commits before it answers.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def serve(port: int, file: Path) -> None:
    """Until killed."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            line = json.dumps({"id": self.headers.get("webhook-id", ""), "body": json.loads(body)})
            with lock, file.open("a") as out:
                out.write(line + "\n")
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """A run of minutes has better things to say."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
