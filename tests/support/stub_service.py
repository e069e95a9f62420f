"""A process that stands in for a service: `python stub_service.py PORT [BEHAVIOUR]`. Answers every GET with 200.

Behaviours: `die` (exit code 3 at once), `deaf` (ignores SIGTERM), `child` (leaves a child process behind),
`slow` (takes a second to stop). On SIGTERM it appends its port to the file in STUB_LOG.
"""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def main() -> None:
    """Serve until SIGTERM."""
    port, behaviour = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if behaviour == "die":
        sys.exit(3)
    if behaviour == "child":
        subprocess.Popen(["sleep", "60"])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler)

    def stop(*_: object) -> None:
        if behaviour == "deaf":
            return
        if behaviour == "slow":
            time.sleep(1)
        with Path(os.environ["STUB_LOG"]).open("a") as log:
            log.write(f"{port}\n")
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
