"""`python -m pbx_signaling`: one instance, told by its environment (ARCHITECTURE.md, "Settings")."""

from pbx_runtime.lifecycle import main
from pbx_signaling.app import main as service_main
from pbx_signaling.settings import SignalingSettings

if __name__ == "__main__":
    main(service_main, SignalingSettings)
