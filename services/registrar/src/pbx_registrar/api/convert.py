"""Messages of the contract to and from the registrar's own values."""

from __future__ import annotations

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar.authenticate import Attempt, Judgement, Verdict
from pbx_registrar.bindings import Contact, Registration
from pbx_registrar.codec import binding_message, flow_of
from pbx_registrar.credentials import Account, canonical
from pbx_registrar.register import Reply
from pbx_runtime.errors import InvalidArgument, ServiceError

RETRY_AFTER_S = 5
"""When a phone may ask again after a failure of Redis or SQL; a restart of either takes about as long."""


def aor_of(text: str) -> str:
    """The canonical address-of-record. Raises InvalidArgument where it is none."""
    user, at, domain = text.rpartition("@")
    if not at or not user or not domain:
        raise InvalidArgument("the address-of-record is not user@domain")
    return canonical(text)


def registration_of(request: pb.RegisterRequest) -> Registration:
    """The REGISTER. Raises InvalidArgument."""
    return Registration(
        aor=aor_of(request.aor),
        contacts=tuple(_contact(contact) for contact in request.contacts),
        remove_all=request.remove_all,
        call_id=request.call_id,
        cseq=request.cseq,
        flow=flow_of(request.flow),
        path=tuple(request.path),
        user_agent=request.user_agent,
    )


def _contact(message: pb.Contact) -> Contact:
    return Contact(
        message.uri,
        message.expires_s if message.HasField("expires_s") else None,
        message.q_thousandths,
        message.sip_instance,
        message.reg_id,
    )


def attempt_of(request: pb.AuthenticateRequest) -> Attempt:
    """The digest response."""
    nonce_source = request.nonce_source if request.HasField("nonce_source") else None
    return Attempt(request.method, request.authorization, request.body, request.aor, request.source_host, nonce_source)


def register_response(reply: Reply) -> pb.RegisterResponse:
    """The answer to a REGISTER."""
    outcome = reply.outcome
    return pb.RegisterResponse(
        status=outcome.status,
        reason=outcome.reason,
        bindings=[binding_message(binding) for binding in outcome.bindings],
        min_expires_s=outcome.min_expires_s,
        stale=reply.stale,
        outbound=outcome.outbound,
    )


def authenticate_response(judgement: Judgement) -> pb.AuthenticateResponse:
    """The answer to a digest response."""
    verdict = pb.Verdict.ValueType(judgement.verdict)
    account = judgement.account
    if judgement.verdict is not Verdict.ACCEPTED or account is None:
        return pb.AuthenticateResponse(verdict=verdict, retry_after_s=judgement.retry_after_s)
    return pb.AuthenticateResponse(
        verdict=verdict, user=account.user, display_name=account.display_name, calls_max=account.calls_max
    )


def account_message(account: Account) -> pb.Account:
    """An account without its credentials."""
    return pb.Account(
        user=account.user,
        domain=account.domain,
        display_name=account.display_name,
        created_at_ms=account.created_at_ms,
        calls_max=account.calls_max,
    )


def error_message(error: Exception) -> pb.Error:
    """Why a command could not be carried out."""
    detail = error.detail if isinstance(error, ServiceError) else "internal error"
    return pb.Error(detail=detail, retry_after_s=RETRY_AFTER_S)
