"""Several signaling processes at one address: phones whose messages one of them gets, and such that wander."""

from __future__ import annotations

import json
import select
import socket
from functools import partial
from typing import Any

from support.phone import Phone
from support.product import DOMAIN, Product
from support.waiting import until
from support.wire import token

TRIES = 200
"""Sources that are tried until one leads to the wanted process; of four processes each is hit by 50 with certainty."""


def names(product: Product) -> tuple[str, ...]:
    """The signaling processes in order."""
    return tuple(process.name for process in product.processes if process.name.startswith("signaling"))


def pid_of(product: Product, name: str) -> int:
    """The pid of a signaling process as it is now, after restarts too."""
    document = json.loads((product.data / "endpoints.json").read_text(encoding="utf-8"))
    return next(int(process["pid"]) for process in document["processes"] if process["name"] == name)


def know_each_other(product: Product) -> None:
    """Until each process knows all of the others; those that start together need no lease for that."""
    replicas = names(product)
    for name in replicas:
        until(partial(_knows, product, name, len(replicas) - 1), timeout_s=15, what=f"all peers of {name}")


def _knows(product: Product, name: str, others: int) -> bool:
    return peers_of(product, name) == others


def peers_of(product: Product, name: str) -> float:
    """How many others a process knows; none while it starts."""
    try:
        return product.metrics(name).sum("pbx_signaling_peers")
    except OSError:
        return 0.0


def total(product: Product, metric: str, **labels: str) -> float:
    """A metric summed over all signaling processes."""
    return sum(product.metrics(name).sum(metric, **labels) for name in names(product))


def phone_at(product: Product, user: str, index: int, kind: str = "udp") -> Phone:
    """A phone from whose port messages that name no process reach the one of that index, or that is connected to it."""
    for _ in range(TRIES):
        phone = product.phone_on(kind, user)
        if taken_by(phone) == index:
            return phone
        phone.close()
    raise AssertionError(f"no source of {TRIES} leads to process {index}")


def taken_by(phone: Phone) -> int:
    """The index of the process that answers OPTIONS: its Contact names it, and the two last figures are its number."""
    server, sender = f"sip:{phone.domain}", f"<sip:x@x>;tag={token()}"
    phone.send(phone._request("OPTIONS", server, f"{token()}@x", sender, f"<{server}>", 1, [], ""))
    answer = phone.expect(200)
    return int(answer.uri("contact").partition("@")[0][-2:])


class Wanderer(Phone):
    """A phone with two ports that lead to different processes. It hears at both; `strays` says from which it sends."""

    strays = False

    def __init__(self, *args: Any, other: socket.socket, **kwargs: Any) -> None:
        self.other = other
        super().__init__(*args, **kwargs)

    def send(self, data: bytes) -> None:
        """From the one or the other port."""
        (self.other if self.strays else self.socket).sendto(data, self.server)

    def stray(self, data: bytes) -> None:
        """This message from the other port."""
        self.other.sendto(data, self.server)

    def _next(self, timeout_s: float) -> bytes:
        readable, _, _ = select.select([self.socket, self.other], [], [], timeout_s)
        if not readable:
            raise TimeoutError
        data: bytes = readable[0].recv(65_535)
        return data

    def close(self) -> None:
        """Closes both."""
        self.other.close()
        super().close()


def wanderer(product: Product, user: str, index: int, other: int) -> Wanderer:
    """One whose first port leads to the one process, and its second to the other."""
    with phone_at(product, user, index) as first, phone_at(product, user, other) as second:
        port, second_port = first.port, second.port
    spare = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    spare.bind(("127.0.0.1", second_port))
    return Wanderer(product.sip, product.credentials(user), domain=DOMAIN, port=port, other=spare)
