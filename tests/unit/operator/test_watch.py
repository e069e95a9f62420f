"""kopf runs beside the service, not inside its loop: signals stay ours, its end is noticed, and it ends with us."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import Any

import kopf
import pytest

from pbx_operator.watch import Watches, WatchesEndedError, hush


async def test_signals_stay_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real kopf, without a cluster: in our own loop it would take SIGTERM over."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    ours = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ours.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ours.set)
    watches = asyncio.create_task(Watches("pbx", lambda: None).run())
    await asyncio.sleep(0.5)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(ours.wait(), 2)
    watches.cancel()
    with contextlib.suppress(asyncio.CancelledError, WatchesEndedError, Exception):
        await watches
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_it_wakes_us_from_its_thread_and_ends_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    woken = asyncio.Event()

    async def operator(*, registry: Any, stop_flag: threading.Event, namespaces: list[str], **_: Any) -> None:
        seen.update(thread=threading.current_thread(), stop=stop_flag, namespaces=namespaces)
        handlers = list(registry._watching.get_all_handlers())
        await handlers[0].fn()
        while not stop_flag.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(kopf, "operator", operator)
    watches = asyncio.create_task(Watches("pbx", woken.set).run())
    await asyncio.wait_for(woken.wait(), 5)
    assert seen["thread"] is not threading.main_thread()
    assert seen["namespaces"] == ["pbx"]
    watches.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watches
    assert seen["stop"].is_set()
    await asyncio.to_thread(seen["thread"].join, 5)
    assert not seen["thread"].is_alive()


@pytest.mark.parametrize("error", [None, RuntimeError("no such resource")])
async def test_its_end_is_ours(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is woken by nobody must not look healthy."""

    async def operator(**_: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(kopf, "operator", operator)
    with pytest.raises(type(error) if error else WatchesEndedError):
        await asyncio.wait_for(Watches("", lambda: None).run(), 5)


@pytest.mark.parametrize(("is_debug", "shown"), [(True, True), (False, False)])
def test_what_kopf_says_of_each_event_is_for_debugging(is_debug: bool, shown: bool) -> None:
    before = logging.getLogger("kopf").level
    try:
        hush(is_debug)
        assert logging.getLogger("kopf.objects").isEnabledFor(logging.INFO) is shown
        assert logging.getLogger("kopf.objects").isEnabledFor(logging.WARNING)
    finally:
        logging.getLogger("kopf").setLevel(before)
