"""`python -m pbx_signaling`: one instance, told by its environment (ARCHITECTURE.md, "Settings")."""

import pbx_runtime.grpc_engine  # noqa: F401  # before anything loads grpc

# isort: split
from pbx_runtime.lifecycle import main
from pbx_signaling.app import main as service_main
from pbx_signaling.settings import SignalingSettings

if __name__ == "__main__":
    main(service_main, SignalingSettings)
