"""Run the registrar: `python -m pbx_registrar`."""

from __future__ import annotations

import pbx_runtime.grpc_engine  # noqa: F401  # before anything loads grpc

# isort: split
from pbx_registrar.app import service_main
from pbx_registrar.settings import RegistrarSettings
from pbx_runtime.lifecycle import main

if __name__ == "__main__":
    main(service_main, RegistrarSettings)
