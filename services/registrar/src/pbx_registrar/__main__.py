"""`python -m pbx_registrar`: one replica, told by its environment (ARCHITECTURE.md, "Settings")."""

from pbx_registrar.app import main as service_main
from pbx_registrar.settings import RegistrarSettings
from pbx_runtime.lifecycle import main

if __name__ == "__main__":
    main(service_main, RegistrarSettings)
