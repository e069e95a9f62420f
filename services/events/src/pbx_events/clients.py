"""Registrar and signaling as the API sees them: live bindings and calls."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pbx.registrar.v1 import registrar_pb2, registrar_pb2_grpc
from pbx.signaling.v1 import signaling_pb2, signaling_pb2_grpc
from pbx_events.cdr.builder import iso
from pbx_events.instances import Instances
from pbx_runtime.errors import DeadlineExceeded, NotFound, Unavailable
from pbx_runtime.grpc_channel import map_rpc_errors, open_channel
from pbx_runtime.grpc_credentials import GrpcCredentials

DEADLINE_S = 3.0
CALLS_S: Final = 1.0
"""What one signaling instance may take; it answers from memory, in milliseconds."""
STATES = {number: name.removeprefix("CALL_STATE_").lower() for name, number in signaling_pb2.CallState.items()}
TRANSPORTS = {number: name.removeprefix("TRANSPORT_").lower() for name, number in registrar_pb2.Transport.items()}


class Bindings:
    """The registrar's bindings."""

    def __init__(self, address: str, credentials: GrpcCredentials | None = None) -> None:
        self._channel = open_channel(address, credentials)
        self._stub: Any = registrar_pb2_grpc.RegistrarServiceStub(self._channel)
        self.accounts = Accounts(self._channel)
        """Kept by the same service."""

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    async def page(self, aor: str, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """One page of bindings."""
        request = registrar_pb2.ListBindingsRequest(aor=aor, page_size=limit, page_token=cursor)
        with map_rpc_errors():
            reply = await self._stub.ListBindings(request, timeout=DEADLINE_S)
        return [_binding(binding) for binding in reply.bindings], reply.next_page_token


class Accounts:
    """The registrar's accounts. Passwords go there and never come back."""

    def __init__(self, channel: Any) -> None:
        self._stub: Any = registrar_pb2_grpc.AccountServiceStub(channel)

    async def page(self, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """One page, in order of user."""
        request = registrar_pb2.ListAccountsRequest(page_size=limit, page_token=cursor)
        with map_rpc_errors():
            reply = await self._stub.ListAccounts(request, timeout=DEADLINE_S)
        return [_account(each) for each in reply.accounts], reply.next_page_token

    async def one(self, user: str, domain: str) -> dict[str, Any]:
        """One of them. Raises NotFound."""
        request = registrar_pb2.GetAccountRequest(user=user, domain=domain)
        with map_rpc_errors():
            return _account((await self._stub.GetAccount(request, timeout=DEADLINE_S)).account)

    async def create(self, user: str, domain: str, password: str, name: str, calls_max: int) -> dict[str, Any]:
        """Makes one. Raises AlreadyExists, InvalidArgument."""
        request = registrar_pb2.PutAccountRequest(
            user=user,
            domain=domain,
            password=password,
            display_name=name,
            calls_max=calls_max,
            mode=registrar_pb2.PUT_MODE_CREATE,
        )
        with map_rpc_errors():
            return _account((await self._stub.PutAccount(request, timeout=DEADLINE_S)).account)

    async def set_password(self, user: str, domain: str, password: str) -> dict[str, Any]:
        """Changes the password alone. Raises NotFound, InvalidArgument."""
        mode = registrar_pb2.PUT_MODE_REPLACE
        request = registrar_pb2.PutAccountRequest(user=user, domain=domain, password=password, mode=mode)
        with map_rpc_errors():
            return _account((await self._stub.PutAccount(request, timeout=DEADLINE_S)).account)

    async def change(self, user: str, domain: str, name: str | None, calls_max: int | None) -> dict[str, Any]:
        """Changes what is not None. Raises NotFound, InvalidArgument."""
        request = registrar_pb2.UpdateAccountRequest(user=user, domain=domain, display_name=name, calls_max=calls_max)
        with map_rpc_errors():
            return _account((await self._stub.UpdateAccount(request, timeout=DEADLINE_S)).account)

    async def delete(self, user: str, domain: str) -> None:
        """Removes one and its registrations. Raises NotFound."""
        request = registrar_pb2.DeleteAccountRequest(user=user, domain=domain)
        with map_rpc_errors():
            reply = await self._stub.DeleteAccount(request, timeout=DEADLINE_S)
        if not reply.deleted:
            raise NotFound(f"no account {user}")


class Calls:
    """The live calls of all signaling instances.

    Each instance is asked for itself, all at once: one that is slow or gone costs its own calls and CALLS_S, no more.
    """

    def __init__(
        self, instances: Instances, credentials: GrpcCredentials | None = None, deadline_s: float = CALLS_S
    ) -> None:
        self._instances = instances
        self._credentials = credentials
        self._deadline_s = deadline_s
        self._channels: dict[str, Any] = {}

    async def close(self) -> None:
        """Closes the channels."""
        await self._keep(set())

    async def page(self, user: str, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str, list[str]]:
        """One page of calls, oldest first, over all instances; then those that did not answer.

        Raises Unavailable where none answered.
        """
        request = signaling_pb2.ListCallsRequest(user=user, page_size=limit, page_token=cursor)
        replies, silent = await self._ask("ListCalls", request)
        if silent and not replies:
            raise Unavailable(f"no signaling instance answers: {', '.join(sorted(silent))}")
        found = sorted((call for reply in replies for call in reply.calls), key=lambda call: call.call_id)
        page = found[:limit]
        more = len(found) > limit or any(reply.next_page_token for reply in replies)
        return [_call(call) for call in page], page[-1].call_id if more and page else "", sorted(silent)

    async def one(self, call_id: str) -> dict[str, Any]:
        """A live call, wherever it lives. Raises NotFound, or Unavailable where it may live on a silent instance."""
        missing = f"no live call {call_id}; /v1/cdrs/{call_id} tells of one that is over"
        return _call((await self._one("GetCall", signaling_pb2.GetCallRequest(call_id=call_id), missing)).call)

    async def hang_up(self, call_id: str, reason: str) -> None:
        """Ends a call wherever it lives. Raises NotFound, or Unavailable where it may live on a silent instance."""
        request = signaling_pb2.HangUpRequest(call_id=call_id, reason=reason)
        await self._one("HangUp", request, f"no live call {call_id}")

    async def _one(self, verb: str, request: Any, missing: str) -> Any:
        """The answer of the instance that has the call."""
        replies, silent = await self._ask(verb, request)
        if replies:
            return replies[0]
        if silent:
            raise Unavailable(f"signaling instances that do not answer: {', '.join(sorted(silent))}")
        raise NotFound(missing)

    async def _ask(self, verb: str, request: Any) -> tuple[list[Any], list[str]]:
        """The answers of those that have one, and the names of those that gave none."""
        alive = await self._instances.alive()
        await self._keep(set(alive.values()))
        answers = await asyncio.gather(*(self._answer(address, verb, request) for address in alive.values()))
        silent = [name for name, (_, is_silent) in zip(alive, answers, strict=True) if is_silent]
        return [reply for reply, _ in answers if reply is not None], silent

    async def _answer(self, address: str, verb: str, request: Any) -> tuple[Any, bool]:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, self._credentials)
        stub: Any = signaling_pb2_grpc.SignalingServiceStub(channel)
        try:
            with map_rpc_errors():
                return await getattr(stub, verb)(request, timeout=self._deadline_s), False
        except NotFound:
            return None, False
        except (Unavailable, DeadlineExceeded):
            return None, True

    async def _keep(self, addresses: set[str]) -> None:
        for address in [known for known in self._channels if known not in addresses]:
            await self._channels.pop(address).close(None)


def _account(account: registrar_pb2.Account) -> dict[str, Any]:
    return {
        "aor": f"{account.user}@{account.domain}",
        "user": account.user,
        "domain": account.domain,
        "display_name": account.display_name or None,
        "calls_max": account.calls_max or None,
        "created_at": iso(account.created_at_ms),
    }


def _binding(binding: registrar_pb2.Binding) -> dict[str, Any]:
    flow = binding.flow
    host = f"[{flow.host}]" if ":" in flow.host else flow.host
    return {
        "aor": binding.aor,
        "user": binding.aor.partition("@")[0],
        "contact": binding.uri,
        "transport": TRANSPORTS[flow.transport],
        "remote_address": f"{host}:{flow.port}",
        "expires_at": iso(binding.expires_at_ms),
        "registered_at": iso(binding.registered_at_ms),
        "user_agent": binding.user_agent or None,
        "call_id": binding.call_id,
        "cseq": binding.cseq,
        "q": binding.q_thousandths / 1000,
        "reachable": _reachable(binding),
        "unreachable_since": iso(binding.unreachable_since_ms) if binding.unreachable_since_ms else None,
        "round_trip_ms": binding.round_trip_ms or None,
    }


def _reachable(binding: registrar_pb2.Binding) -> bool | None:
    """Whether its phone answers; None where it was never heard to."""
    if binding.unreachable_since_ms:
        return False
    return True if binding.round_trip_ms else None


def _call(call: signaling_pb2.Call) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "state": STATES[call.state],
        "caller": call.caller,
        "callee": call.callee,
        "started_at": iso(call.started_at_ms),
        "answered_at": iso(call.answered_at_ms) if call.HasField("answered_at_ms") else None,
        "relay_id": call.relay_id or None,
        "instance": call.instance_id,
        "legs": [
            _leg(side, leg)
            for side, leg in (("caller", call.caller_leg), ("callee", call.callee_leg))
            if leg.sip_call_id
        ],
    }


def _leg(side: str, leg: signaling_pb2.Leg) -> dict[str, Any]:
    transport, _, address = leg.remote_address.partition(":")
    return {
        "side": side,
        "sip_call_id": leg.sip_call_id or None,
        "local_tag": leg.local_tag or None,
        "remote_tag": leg.remote_tag or None,
        "transport": transport or None,
        "remote_address": address or None,
        "user_agent": leg.user_agent or None,
    }
