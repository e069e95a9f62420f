"""`python -m pbx_events`: one replica, told by its environment (ARCHITECTURE.md, "Settings")."""

import pbx_runtime.grpc_engine  # noqa: F401  # before anything loads grpc

# isort: split
from pbx_events.app import main as service_main
from pbx_events.settings import EventsSettings
from pbx_runtime.lifecycle import main

if __name__ == "__main__":
    main(service_main, EventsSettings)
