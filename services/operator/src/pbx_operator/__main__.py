"""Run the operator: `python -m pbx_operator`."""

from __future__ import annotations

import pbx_runtime.grpc_engine  # noqa: F401  # before anything loads grpc

# isort: split
from pbx_operator.app import service_main
from pbx_operator.settings import OperatorSettings
from pbx_runtime.lifecycle import main

if __name__ == "__main__":
    main(service_main, OperatorSettings)
