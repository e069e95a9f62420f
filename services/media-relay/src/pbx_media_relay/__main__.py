"""Run the relay: `python -m pbx_media_relay`."""

from __future__ import annotations

from pbx_media_relay.app import service_main
from pbx_media_relay.settings import RelaySettings
from pbx_runtime.lifecycle import main

if __name__ == "__main__":
    main(service_main, RelaySettings)
