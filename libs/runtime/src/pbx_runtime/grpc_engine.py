"""Which engine gRPC waits with. Imported for its effect, before `grpc` is: gRPC reads the choice when it is loaded.

gRPC's own choice is a pool of threads, the event engine: a message wakes one that polls, one that reads, the one that
carries completions to Python, and then the loop. The engine before it, still part of gRPC, polls in the thread that
carries completions. Measured with one stream over a unix socket, a message and its answer, voluntary context switches
of all threads (grpc 1.85): server 10.5 and 5.2, client 10.9 and 7.0. The same code runs on less often woken cores.
"""

from __future__ import annotations

import os
from typing import Final

EXPERIMENTS: Final = "-event_engine_client,-event_engine_listener"
"""What is switched off. A test holds that the locked gRPC knows both words; one that does not says so and goes on."""

# Whoever sets the variable has a reason of his own.
os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
