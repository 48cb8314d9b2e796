"""What a Triton program takes of a multiprocessor, as the tool that comes with Triton reads it; no GPU is needed."""

import re
import subprocess
import tempfile
from pathlib import Path

import triton


def registers(kernel):
    """Registers of a thread, and bytes of what found no room in them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [tool, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def check_registers(kernel, blocks):
    """No value leaves the registers, and so many blocks have a multiprocessor's at one time."""
    own, spilled = registers(kernel)
    assert spilled == 0, f"{kernel.metadata.name}: {spilled} bytes"
    assert own <= 65536 // (32 * kernel.metadata.num_warps * blocks) // 8 * 8, f"{kernel.metadata.name}: {own}"
