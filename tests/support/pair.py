"""Two users of the running product, and the ladders that are played between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from support.phone import Phone
from support.ports import free_port
from support.product import Product
from support.sipp import Sipp
from support.sipp_script import Callee, Caller
from support.waiting import until

NO_ANSWER_S = 3
"""How long a callee may ring here: short, so that nobody waits; longer than any other ringing of these tests."""
_LIMITS = ("-recv_timeout", "8000")


@dataclass(slots=True)
class Pair:
    """Two users; nobody else uses them."""

    product: Product
    caller: str
    callee: str

    def calling(self) -> Caller:
        """The caller's side, to be built upon."""
        return Caller(self.caller, self.product.credentials(self.caller).password, self.callee)

    def phones(self) -> tuple[Phone, Phone]:
        """Wire-level phones of both; the callee's is registered."""
        callee = self.product.phone(self.callee)
        assert callee.register().status == 200
        return self.product.phone(self.caller), callee

    def play(
        self,
        caller: Caller,
        callee: Callee | None = None,
        *,
        calls: int = 1,
        rate: int = 100,
        kinds: tuple[str, str] = ("udp", "udp"),
    ) -> None:
        """Play the ladders against the product; both sides must see what they expect.

        `kinds`: the transports of caller and callee, "udp", "tcp", "udp6", "tcp6".
        """
        options = [*_LIMITS, "-r", str(rate), "-l", str(calls)]
        if callee is None:
            self._call(caller, calls, options, kinds[0])
            return
        port = free_port()
        self._register(port, kinds[1])
        with Sipp(callee.xml(), port=port, target=None, calls=calls, extra=_LIMITS, kind=kinds[1]) as called:
            called.wait_ready()
            self._call(caller, calls, options, kinds[0], called)
            outcome = called.wait(10)
            assert (outcome.exit_code, outcome.successful) == (0, calls), called.explain()

    def _register(self, port: int, kind: str) -> None:
        """Registers SIPp's address, over UDP and from its very port: the product may send to the source instead."""
        with self.product.phone_on("udp6" if kind.endswith("6") else "udp", self.callee, port) as phone:
            transport = ";transport=tcp" if kind.startswith("tcp") else ""
            assert phone.register(contacts=(f"<{phone.contact}{transport}>",)).status == 200

    def _call(self, caller: Caller, calls: int, options: list[str], kind: str, called: Sipp | None = None) -> None:
        target = self.product.server(kind)
        with Sipp(caller.xml(), port=free_port(), target=target, calls=calls, extra=options, kind=kind) as calling:
            outcome = calling.wait(40)
            other = f"\n=== callee{called.explain()}" if called else ""
            assert (outcome.exit_code, outcome.successful) == (0, calls), (
                f"=== caller{calling.explain()}{other}\n{self.product.log()}"
            )

    def cdr(self, **expected: Any) -> dict[str, Any]:
        """The one CDR of this pair's call; its fields must have the values given."""
        found = self.product.cdr(caller=self.caller)
        wrong = {name: found.get(name) for name, value in expected.items() if found.get(name) != value}
        assert not wrong, f"expected {expected}, CDR has {wrong}: {found}"
        return found

    def contacts(self, user: str) -> list[str]:
        """Registered contacts of a user, as the API lists them."""
        items = self.product.get("/v1/registrations", limit=1000)["items"]
        return [item["contact"] for item in items if item["aor"].startswith(f"{user}@")]

    def wait_registered(self, user: str) -> None:
        """Until the user has a binding."""
        until(lambda: self.contacts(user), timeout_s=15, what=f"{user} registered")

    def released(self) -> None:
        """Nothing of the call is left."""
        self.product.assert_all_released()
