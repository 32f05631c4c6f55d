"""Compiles every Triton kernel for GPUs that need not be there, and prints what the machine code uses.

Run in a process of its own, without TRITON_INTERPRET: `python compile_ahead.py 80 90`. One JSON object a
line: kernel, architecture, registers, stack and local bytes (both 0 without spills), kind of matrix
instructions, whether loads are fetched ahead, minima that would swallow a NaN.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import kernels.cells  # noqa: F401, registers every cell
from kernels.rtrl.cell import CELLS
from kernels.rtrl.triton import BLOCK, STAGES, WARPS, forward_scan_kernel, reverse_scan_kernel
from kernels.trace.triton import advance_trace_kernel, choose_tile
from kernels.vtrace import triton as vtrace

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
TYPES = {"reset": "*u8", "continues": "*u8", "rows": "*i64"}
TYPES |= dict.fromkeys(("T", "B", "N", "D", "PADDED"), "i32")
TYPES |= dict.fromkeys(("decay_b", "update_t", "update_b", "update_i"), "i32")
TYPES |= dict.fromkeys(("clip_rho", "clip_c", "clip_pg_rho", "lambda_"), "fp32")
# Of a family that differs by parameterisation alone, one: its scans are the same.
SCANNED = ("elstm", "mingru", "indylstm", "block_diagonal", "lru")
SCANNED += tuple(f"rtu_{activation}/exp_exp/exp" for activation in ("relu", "tanh", "linear"))


def builds() -> Iterator[tuple[str, Any, dict[str, Any], dict[str, int], str, bool]]:
    """Name, kernel, compile-time constants, options, the type of the trace, and whether N is a multiple of
    16."""
    for state in (1, 2):
        for label, precision, one_step, turns, dtype in (
            ("tf32", "tf32", False, 1, "*fp32"),
            ("tf32x3", "tf32x3", False, 1, "*fp32"),
            ("ieee", "ieee", False, 1, "*fp32"),
            ("one step", "ieee", True, 1, "*fp32"),
            ("bfloat16", "tf32", False, 1, "*bf16"),
            ("two turns", "tf32", False, 2, "*fp32"),
            ("advance alone", "tf32", False, 0, "*fp32"),
        ):
            tile = choose_tile(state, precision, half=dtype == "*bf16")
            constants = {
                "COLUMNS": tile.columns, "K": 2, "L": turns, "STATE": state, "BLOCK_N": tile.n,
                "BLOCK_D": tile.d, "BLOCK_T": tile.t, "ONE_STEP": one_step, "PRECISION": precision,
            }  # fmt: skip
            options = {"num_warps": tile.warps, "num_stages": tile.stages}
            yield f"trace, d = {state}, {label}", advance_trace_kernel, constants, options, dtype, True
            if label in ("tf32", "bfloat16"):
                odd = choose_tile(state, precision, half=dtype == "*bf16", even=False)
                options = {"num_warps": odd.warps, "num_stages": odd.stages}
                yield (
                    f"trace, d = {state}, {label}, odd N",
                    advance_trace_kernel,
                    constants,
                    options,
                    dtype,
                    False,
                )
    options = {"num_warps": WARPS}
    for name in SCANNED:
        cell = CELLS[name]
        step, pull = cell.triton()
        C = cell.constants(torch.zeros(len(cell.vectors), 1)).shape[0]
        sizes = {"d": cell.d, "K": len(cell.gates), "C": C, "E": cell.extra, "BLOCK": BLOCK, "STAGES": STAGES}
        for derivatives in (False, True):
            constants = {"STEP": step, "DERIVATIVES": derivatives, **sizes}
            yield f"forward, {name}, {derivatives}", forward_scan_kernel, constants, options, "*fp32", True
        for adjoint, suffix, boundary in (
            (True, False, False),
            (True, False, True),
            (False, True, False),
            (True, True, True),
        ):
            flags = {"ADJOINT": adjoint, "SUFFIX": suffix, "BOUNDARY": boundary}
            own = {"PULL": pull, "V": len(cell.vectors), "BIASES": cell.biases is not None}
            label = f"reverse, {name}, {adjoint}, {suffix}, {boundary}"
            yield label, reverse_scan_kernel, {**own, **flags, **sizes}, options, "*fp32", boundary
    constants = {"BLOCK": vtrace.BLOCK, "STAGES": vtrace.STAGES}
    yield "vtrace", vtrace.vtrace_kernel, constants, {"num_warps": 1}, "*fp32", True


def compile_for(
    architecture: int, kernel: Any, constants: dict, options: dict, trace: str, even: bool
) -> dict[str, Any]:
    signature = {
        name: "constexpr" if name in constants else trace if name == "matrices" else TYPES.get(name, "*fp32")
        for name in kernel.arg_names
    }
    # What the launcher finds at run time: aligned tensors, rows padded to 16, and, if `even`, N a multiple of
    # it.
    multiples = ("PADDED", *(("N", "decay_b", "update_t", "update_b", "update_i") if even else ()))
    aligned = [i for i, (name, kind) in enumerate(signature.items()) if kind[0] == "*" or name in multiples]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        command = [str(CUOBJDUMP), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
    matrix = "wgmma" if "wgmma" in built.asm["ptx"] else "mma" if "mma.sync" in built.asm["ptx"] else "none"
    return {
        "registers": int(found["REG"]),
        "stack": int(found["STACK"]),
        "local": int(found["LOCAL"]),
        "matrix": matrix,
        "prefetches": "cp.async" in built.asm["ptx"],
        "plain_minima": len(re.findall(r"min\.f32", built.asm["ptx"])),
    }


if __name__ == "__main__":
    for architecture in map(int, sys.argv[1:]):
        for name, *build in builds():
            print(json.dumps({"kernel": name, "sm": architecture, **compile_for(architecture, *build)}))
