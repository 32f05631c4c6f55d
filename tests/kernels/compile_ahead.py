"""Compiles every Triton kernel for GPUs that need not be there, and prints what the machine code uses.

Run in a process of its own, without TRITON_INTERPRET: `python compile_ahead.py 80 90`. One JSON object a
line: kernel, architecture, registers, stack and local bytes (both 0 without spills), kind of matrix
instructions, loads in a loop over time that are not fetched ahead (null: nothing is), loads and stores of 16
bytes and single ones a thread, minima that would swallow a NaN.
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
TYPES = {"reset": "*i32", "continues": "*i32", "rows": "*i64"}
TYPES |= dict.fromkeys(("T", "B", "N", "D", "columns"), "i32")
TYPES |= dict.fromkeys(("decay_b", "update_t", "update_b", "update_i"), "i32")
TYPES |= dict.fromkeys(("clip_rho", "clip_c", "clip_pg_rho", "lambda_"), "fp32")
LOOP = re.compile(r"^(\$L__BB\w+):[^\n]*Inner Loop Header(.*?)\bbra\s+\1;", re.DOTALL | re.MULTILINE)
# Of a family that differs by parameterisation alone, one: its scans are the same.
SCANNED = ("elstm", "mingru", "indylstm", "block_diagonal", "lru")
SCANNED += tuple(f"rtu_{activation}/exp_exp/exp" for activation in ("relu", "tanh", "linear"))


EVEN = ("D", "N", "decay_b", "update_t", "update_b", "update_i")
"""Sizes and strides that are multiples of 16 where N is one; D is the trace's width, padded to one."""


def builds() -> Iterator[tuple[str, Any, dict[str, Any], dict[str, int], str, tuple[str, ...]]]:
    """Name, kernel, compile-time constants, options, the type of the trace, and which of EVEN are."""
    for state in (1, 2):
        for label, precision, one_step, turns, dtype, even in (
            ("tf32", "tf32", False, 1, "*fp32", EVEN),
            ("tf32x3", "tf32x3", False, 1, "*fp32", EVEN),
            ("ieee", "ieee", False, 1, "*fp32", EVEN),
            ("one step", "tf32x3", True, 1, "*fp32", EVEN),
            ("bfloat16", "tf32", False, 1, "*bf16", EVEN),
            ("two turns", "tf32", False, 2, "*fp32", EVEN),
            ("two turns, tf32x3", "tf32x3", False, 2, "*fp32", EVEN),
            ("advance alone", "tf32", False, 0, "*fp32", EVEN),
            ("tf32, odd N", "tf32", False, 1, "*fp32", ("D",)),
            ("tf32x3, odd N", "tf32x3", False, 1, "*fp32", ("D",)),
            ("bfloat16, odd N", "tf32", False, 1, "*bf16", ("D",)),
            ("tf32, odd D", "tf32", False, 1, "*fp32", EVEN[1:]),
        ):
            tile = choose_tile(state, turns, precision)
            constants = {
                "K": 2, "L": turns, "STATE": state, "BLOCK_N": tile.n, "BLOCK_D": tile.d,
                "BLOCK_T": tile.t, "ONE_STEP": one_step, "PRECISION": precision,
            }  # fmt: skip
            options = {"num_warps": tile.warps, "num_stages": tile.stages}
            yield f"trace, d = {state}, {label}", advance_trace_kernel, constants, options, dtype, even
    options = {"num_warps": WARPS}
    for name in SCANNED:
        cell = CELLS[name]
        step, pull = cell.triton()
        C = cell.constants(torch.zeros(len(cell.vectors), 1)).shape[0]
        sizes = {"d": cell.d, "K": len(cell.gates), "C": C, "E": cell.extra, "BLOCK": BLOCK, "STAGES": STAGES}
        for derivatives in (False, True):
            constants = {"STEP": step, "DERIVATIVES": derivatives, **sizes}
            yield f"forward, {name}, {derivatives}", forward_scan_kernel, constants, options, "*fp32", EVEN
        for adjoint, suffix, boundary in (
            (True, False, False),
            (True, False, True),
            (False, True, False),
            (True, True, True),
        ):
            flags = {"ADJOINT": adjoint, "SUFFIX": suffix, "BOUNDARY": boundary}
            own = {"PULL": pull, "V": len(cell.vectors), "BIASES": cell.biases is not None}
            label = f"reverse, {name}, {adjoint}, {suffix}, {boundary}"
            yield label, reverse_scan_kernel, {**own, **flags, **sizes}, options, "*fp32", EVEN * boundary
    constants = {"BLOCK": vtrace.BLOCK, "STAGES": vtrace.STAGES}
    yield "vtrace", vtrace.vtrace_kernel, constants, {"num_warps": 1}, "*fp32", EVEN


def compile_for(
    architecture: int, kernel: Any, constants: dict, options: dict, trace: str, even: tuple[str, ...]
) -> dict[str, Any]:
    signature = {
        name: "constexpr" if name in constants else trace if name == "matrices" else TYPES.get(name, "*fp32")
        for name in kernel.arg_names
    }
    # What the launcher finds at run time: aligned tensors, and sizes that are multiples of 16.
    aligned = [i for i, (name, kind) in enumerate(signature.items()) if kind[0] == "*" or name in even]
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
    ptx = built.asm["ptx"]
    matrix = "wgmma" if "wgmma" in ptx else "mma" if "mma.sync" in ptx else "none"
    moves = {"ld": (r"ld\.global(?:\.\w+::\w+)*", "loads"), "st": (r"st\.global", "stores")}
    wide = {f"wide_{name}": len(re.findall(start + r"\.v4\.b32", ptx)) for start, name in moves.values()}
    single = {f"single_{name}": len(re.findall(start + r"\.b\d+", ptx)) for start, name in moves.values()}
    waits = sum(body.count("ld.global") for _, body in LOOP.findall(ptx))
    return {
        "registers": int(found["REG"]),
        "stack": int(found["STACK"]),
        "local": int(found["LOCAL"]),
        "matrix": matrix,
        "waits": waits if "cp.async" in ptx else None,
        **wide,
        **single,
        "plain_minima": len(re.findall(r"min\.f32", ptx)),
    }


if __name__ == "__main__":
    for architecture in map(int, sys.argv[1:]):
        for name, *build in builds():
            print(json.dumps({"kernel": name, "sm": architecture, **compile_for(architecture, *build)}))
