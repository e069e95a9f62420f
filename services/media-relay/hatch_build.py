"""Builds the native datapath's library where there is a C compiler; the package installs without it too.

Run by hatchling for wheels and editable installs, and by hand: `python hatch_build.py`. The relay then falls back to
the python datapath and says so once. PBX_NATIVE_CFLAGS is added to the flags, as for a sanitizer build.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = "-std=c11 -D_GNU_SOURCE -O2 -g1 -Wall -Wextra -Werror -fPIC -fvisibility=default -shared -pthread"
HERE = Path(__file__).resolve().parent
PACKAGE = HERE / "src" / "pbx_media_relay" / "datapath"


def build() -> str:
    """Compile the library beside the Python module; answers why not, or nothing."""
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or ""]
    if not compiler[0]:
        return "no C compiler (cc, gcc) on the PATH"
    sources = sorted(str(path) for path in (HERE / "native" / "src").glob("*.c"))
    made = PACKAGE / "_relay.so.new"
    extra = shlex.split(os.environ.get("PBX_NATIVE_CFLAGS", ""))
    done = subprocess.run(  # noqa: S603 -- the compiler that the environment names
        [*compiler, *FLAGS.split(), *extra, "-o", str(made), *sources], capture_output=True, text=True
    )
    if done.returncode:
        return f"{compiler[0]} failed:\n{done.stderr}"
    shutil.copyfile(HERE / "native" / "include" / "relay_abi.h", PACKAGE / "_relay_abi.h")
    made.replace(PACKAGE / "_relay.so")  # a running relay keeps the file that it has mapped
    return ""


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without hatchling
    pass
else:

    class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Compiles before the package is put together."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            """Build; without a compiler the package stays pure Python."""
            refused = build()
            if refused:
                self.app.display_warning(f"native datapath not built: {refused}")
                return
            build_data["pure_python"] = False
            build_data["infer_tag"] = True


if __name__ == "__main__":
    failed = build()
    sys.exit(f"native datapath not built: {failed}" if failed else 0)
