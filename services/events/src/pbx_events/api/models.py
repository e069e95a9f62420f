"""The shapes of what the API answers, for its OpenAPI document. The tests hold every answer to them.

They describe and do not convert: what the store has is sent as it is, once.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pbx_events.api.values import Outcome

TIME = "2026-11-23T10:00:00.000Z"
CALL = "01KAR3V7E0Q8Y1N4T6Z2M5B9CD"


class Shape(BaseModel):
    """A shape that may gain fields: readers ignore those that they do not know."""

    model_config = ConfigDict(extra="allow")


class WrongThing(Shape):
    """One thing that is wrong with a request."""

    in_: str = Field(alias="in", examples=["query.outcome"])
    code: str = Field(examples=["unknown_value"])
    detail: str = Field(examples=["'busi': input should be 'answered', 'cancelled' or 'busy'"])


class Problem(Shape):
    """An error (RFC 9457, application/problem+json)."""

    type: str = Field(examples=["/errors/not_found"], description="Where its page is, on this server")
    title: str = Field(examples=["There is no such thing"])
    status: int = Field(examples=[404])
    code: str = Field(examples=["not_found"], description="For programs: a code never changes its meaning")
    detail: str = Field(examples=["no CDR 01KAR3V7E0Q8Y1N4T6Z2M5B9CD"])
    request_id: str = Field(default="", examples=[CALL], description="As in the header x-request-id and in the log")
    errors: list[WrongThing] = Field(default=[], description="With 422: everything that is wrong")


class MediaStatistics(Shape):
    """What the relay measured of the packets that came from one side; null: not measured."""

    media: str = Field(examples=["audio"])
    packets: int = Field(examples=[500])
    bytes: int = Field(examples=[86000])
    packets_lost: int | None = Field(examples=[3])
    jitter_ms: float | None = Field(examples=[0.4])
    mos: float | None = Field(examples=[4.3], description="ITU-T G.107 estimate, 1 to 4.5")
    rtt_ms: float | None = Field(examples=[21.0])
    packets_reordered: int | None = Field(examples=[0])
    packets_duplicate: int | None = Field(examples=[0])
    packets_dropped: int = Field(examples=[0], description="Refused by the relay: wrong source, rate, malformed")


class CdrLeg(Shape):
    """One leg of a call; null: never known."""

    side: Literal["caller", "callee"]
    sip_call_id: str | None = Field(examples=["4b1c8a0e@192.0.2.10"])
    local_tag: str | None
    remote_tag: str | None
    transport: str | None = Field(examples=["udp"])
    remote_address: str | None = Field(examples=["192.0.2.10:5060"])
    user_agent: str | None = Field(examples=["baresip v1.0.0"])
    codec: str | None = Field(examples=["PCMU/8000"])
    final_status: int | None = Field(examples=[200])
    media: list[MediaStatistics]


class Recording(Shape):
    """A recording of a call; it is added when its file is closed, which may raise the CDR's revision."""

    path: str = Field(examples=["/recordings/01KAR3V7E0Q8Y1N4T6Z2M5B9CD.wav"], description="As the relay sees it")
    duration_ms: int = Field(examples=[10000])
    bytes: int = Field(examples=[640044])
    relay_id: str = Field(examples=["relay-0"])


class Migration(Shape):
    """A move of a call's media to another relay, or of the call to another instance."""

    at: str = Field(examples=[TIME])
    what: Literal["media", "call"]
    from_: str = Field(alias="from", examples=["relay-0"])
    to: str = Field(examples=["relay-1"])


class Cdr(Shape):
    """A call detail record: one for each attempt. Times are of the wall clock, durations of a monotonic one."""

    id: str = Field(examples=[CALL])
    call_id: str = Field(examples=[CALL])
    revision: int = Field(ge=1, examples=[1], description="Rises when a late event corrects the record")
    caller: str = Field(examples=["1004"])
    caller_name: str | None = Field(examples=["Ada"])
    callee: str = Field(examples=["1008"])
    dialled: str = Field(examples=["1008"])
    domain: str = Field(examples=["pbx.local"])
    connected: str | None = Field(examples=["1008"], description="Who answered")
    target: str | None = Field(examples=["sip:1008@192.0.2.20:5060"], description="Contact of the phone that answered")
    started_at: str = Field(examples=[TIME])
    ringing_at: str | None = Field(examples=[TIME])
    answered_at: str | None = Field(examples=[TIME])
    ended_at: str | None = Field(examples=[TIME])
    duration_ms: int | None = Field(examples=[12000])
    talk_ms: int | None = Field(examples=[10000], description="null where the call's node was lost")
    outcome: Outcome | None
    origin: str | None = Field(
        examples=["remote"], description="remote, timer, admin, media_timeout, node_lost or drain: what ended it"
    )
    hung_up_by: str | None = Field(examples=["caller"])
    sip_status: int | None = Field(examples=[200])
    sip_reason: str | None = Field(examples=["OK"])
    q850_cause: int | None = Field(examples=[16])
    cause: str | None = Field(examples=["normal"])
    hangup_reason: str | None = Field(
        examples=[None], description="The reason that an administrator who ended the call gave"
    )
    relay_id: str | None = Field(examples=["relay-0"])
    instance: str = Field(examples=["signaling/signaling-0"])
    legs: list[CdrLeg]
    recordings: list[Recording]
    migrations: list[Migration]
    traceparent: str | None = Field(examples=["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])


class CloudEvent(Shape):
    """An event, CloudEvents 1.0 in structured JSON."""

    specversion: Literal["1.0"]
    id: str = Field(examples=[CALL])
    source: str = Field(examples=["sip-pbx/signaling/signaling-0"])
    type: str = Field(examples=["io.pbx.call.answered.v1"])
    subject: str = Field(
        examples=[CALL], description="The call, or the address-of-record of a registration or of whom a message is for"
    )
    time: str = Field(examples=[TIME])
    datacontenttype: Literal["application/json"]
    data: dict[str, Any] = Field(examples=[{"call_id": CALL, "sequence": 4, "connected": "1008"}])


class LiveLeg(Shape):
    """One leg of a live call; null: not known yet."""

    side: Literal["caller", "callee"]
    sip_call_id: str | None = Field(examples=["4b1c8a0e@192.0.2.10"])
    local_tag: str | None
    remote_tag: str | None
    transport: str | None = Field(examples=["udp"])
    remote_address: str | None = Field(examples=["192.0.2.10:5060"])
    user_agent: str | None = Field(examples=["baresip v1.0.0"])


class LiveCall(Shape):
    """A call that is up, or on its way."""

    call_id: str = Field(examples=[CALL])
    state: Literal["routing", "dialing", "ringing", "answered", "ending"]
    caller: str = Field(examples=["1004"])
    callee: str = Field(examples=["1008"])
    started_at: str = Field(examples=[TIME])
    answered_at: str | None = Field(examples=[TIME])
    relay_id: str | None = Field(examples=["relay-0"])
    instance: str = Field(examples=["signaling-0"])
    legs: list[LiveLeg]


class HangUp(Shape):
    """A call that is being ended."""

    call_id: str = Field(examples=[CALL])


class Registration(Shape):
    """A binding."""

    aor: str = Field(examples=["1004@pbx.local"])
    user: str = Field(examples=["1004"])
    contact: str = Field(examples=["sip:1004@192.0.2.10:5060"])
    transport: str = Field(examples=["udp"], description="Over which the REGISTER came")
    remote_address: str = Field(examples=["192.0.2.10:5060"], description="Whence it came")
    expires_at: str = Field(examples=[TIME])
    registered_at: str = Field(examples=[TIME])
    user_agent: str | None = Field(examples=["baresip v1.0.0"])
    call_id: str = Field(examples=["f81d4fae@192.0.2.10"])
    cseq: int = Field(examples=[2])
    q: float = Field(examples=[1.0])
    reachable: bool | None = Field(
        examples=[True], description="Whether the phone answers; null where it is not asked, or never answered"
    )
    unreachable_since: str | None = Field(examples=[None])
    round_trip_ms: int | None = Field(examples=[12], description="To the phone and back, when it changed last")


class Subscription(Shape):
    """A webhook subscription."""

    id: str = Field(examples=["01KAR3W2K7X5J8C0V4R1H6N3PQ"])
    url: str = Field(examples=["https://crm.example/hooks/pbx"])
    types: list[str] = Field(examples=[["call.*"]])
    user: str | None = Field(examples=[None])
    direction: Literal["from", "to"] | None = Field(examples=[None])
    enabled: bool


class NewSubscription(Subscription):
    """A subscription that was made."""

    secret: str = Field(examples=["whsec_..."], description="Shown this once")


class Deliveries(Shape):
    """How many deliveries are in each state."""

    pending: int = Field(examples=[0])
    delivered: int = Field(examples=[14])
    dead: int = Field(examples=[0])


class ListedSubscription(Subscription):
    """A subscription, with what is on its way."""

    deliveries: Deliveries
    last_error: str | None = Field(examples=[None])


class RotatedSecret(Shape):
    """A new secret; both sign until the time given."""

    id: str
    secret: str = Field(examples=["whsec_..."])
    old_secret_until: str = Field(examples=[TIME])


class Account(Shape):
    """Who may register and call; never with a password."""

    aor: str = Field(examples=["1004@pbx.local"])
    user: str = Field(examples=["1004"])
    domain: str = Field(examples=["pbx.local"])
    display_name: str | None = Field(examples=["Ada"])
    calls_max: int | None = Field(examples=[None], description="Calls that it may make at once; null: the default")
    created_at: str = Field(examples=[TIME])


class ApiToken(Shape):
    """A named token, without what it is."""

    id: str = Field(examples=["01KAR3W2K7X5J8C0V4R1H6N3PQ"])
    name: str = Field(examples=["billing"])
    scopes: list[str] = Field(examples=[["read"]])
    created_at: str = Field(examples=[TIME])
    expires_at: str | None = Field(examples=[TIME])
    old_valid_until: str | None = Field(examples=[None], description="Until when the one before its rotation is taken")


class NewToken(ApiToken):
    """A token that was made, or made anew."""

    token: str = Field(examples=["pbx_01KAR3W2K7X5J8C0V4R1H6N3PQ_..."], description="Shown this once")


class Attempt(Shape):
    """One attempt to deliver."""

    id: int = Field(examples=[15])
    event_id: str = Field(examples=[CALL])
    at: str = Field(examples=[TIME])
    status: int = Field(examples=[204], description="0: no answer")
    duration_ms: int = Field(examples=[12])
    excerpt: str = Field(examples=[""], description="The beginning of the answer, or the error")


class DeadLetter(Shape):
    """A delivery that was given up."""

    id: int = Field(examples=[15])
    event_id: str = Field(examples=[CALL])
    call_id: str | None = Field(examples=[CALL])
    attempts: int = Field(examples=[10])
    last_error: str | None = Field(examples=["503"])


class Replayed(Shape):
    """How many events go out again."""

    id: str
    events: int = Field(examples=[9])


class Tested(Shape):
    """What came of a `webhook.test` event."""

    event_id: str
    status: int = Field(examples=[204], description="0: no answer")
    duration_ms: int = Field(examples=[12])
    excerpt: str = Field(examples=[""])


class PageOf(Shape):
    """A page of a list."""

    next: str | None = Field(examples=[None], description="`cursor` of the next page; null at the end")


class CdrPage(PageOf):
    """Call detail records."""

    items: list[Cdr]


class EventPage(PageOf):
    """Events."""

    items: list[CloudEvent]


class CallPage(PageOf):
    """Live calls."""

    items: list[LiveCall]
    unreachable: list[str] = Field(
        examples=[[]], description="Signaling instances that did not answer: their calls are missing here"
    )


class RegistrationPage(PageOf):
    """Bindings."""

    items: list[Registration]


class SubscriptionPage(PageOf):
    """Subscriptions."""

    items: list[ListedSubscription]


class AccountPage(PageOf):
    """Accounts."""

    items: list[Account]


class TokenPage(PageOf):
    """Named tokens."""

    items: list[ApiToken]


class AttemptPage(PageOf):
    """Attempts."""

    items: list[Attempt]


class DeadLetterPage(PageOf):
    """Dead letters."""

    items: list[DeadLetter]
