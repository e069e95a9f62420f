"""An HTTP server that takes webhook deliveries and keeps them; it can be told to refuse for a while."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.waiting import until


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent in the body."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


class WebhookSink:
    """Listens on a free port of loopback from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.status = 204
        """What every delivery is answered with from now on; only those answered 2xx are kept."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where to deliver."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def __enter__(self) -> WebhookSink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def wait_for(self, event_type: str, *, timeout_s: float = 15, **data: str) -> Delivery:
        """The first delivery of that type whose data holds the given values."""

        def find() -> Delivery | None:
            for delivery in list(self.deliveries):
                event = delivery.event
                if event_type in event["type"] and data.items() <= event.get("data", {}).items():
                    return delivery
            return None

        found = until(find, timeout_s=timeout_s, what=f"webhook {event_type} {data}; came: {self.types()}")
        assert found is not None
        return found

    def types(self) -> list[str]:
        """Types of the events that came, in order."""
        return [delivery.event["type"] for delivery in list(self.deliveries)]

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if 200 <= sink.status < 300:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    sink.deliveries.append(Delivery(self.path, headers, body))
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """A test's output has better uses."""

        return Handler
