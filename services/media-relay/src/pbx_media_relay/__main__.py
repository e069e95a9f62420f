"""Run the relay: `python -m pbx_media_relay [--relay-ports FIRST-LAST]`. Everything else is in the
environment."""

from __future__ import annotations

import argparse
import os

import pbx_runtime.grpc_engine  # noqa: F401  # before anything loads grpc

# isort: split
from pbx_media_relay.app import service_main
from pbx_media_relay.settings import RelaySettings
from pbx_runtime.lifecycle import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="pbx-media-relay", description="Relays the media of calls.")
    parser.add_argument("--relay-ports", metavar="FIRST-LAST", help="the shard; instead of PBX_RELAY_PORTS")
    arguments = parser.parse_args()
    if arguments.relay_ports:
        os.environ["PBX_RELAY_PORTS"] = arguments.relay_ports
    main(service_main, RelaySettings)
