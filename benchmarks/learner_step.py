"""What exact RTRL costs a whole learner step, against TBPTT: one network, the same rollouts, in turns.

    launch.py bench learner                 T = 100, B = 32, N = 512, IMPALA's deep encoder
    launch.py bench learner --quick         a small one, to see that it runs

On a machine that has no more than torch, triton and numpy: `python -m benchmarks.learner_step`, the same.

A step is `Learner.update`: encoder, core, heads, V-trace loss, backward, clip, optimiser. Correctness comes
first: from traces of zeros RTRL must leave TBPTT's gradients, or no speed is printed. Then rounds of three
steps: TBPTT, RTRL and a second TBPTT, the next round the other way round. The ratio of each round counts; the
second TBPTT's ratio to the first is what the machine's noise alone does to one. What RTRL adds in ms is taken
from such rounds with an encoder that costs little ("mlp"), where it is not lost in the noise of convolutions.

Times are CUDA events on a GPU; the wall clock on a CPU, and the CPU time of the process (all threads). On a
GPU, loss and gradient are also timed under torch.compile and as a CUDA graph.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from actors.policy.precision import set_tf32
from benchmarks import pairs, verb
from benchmarks.learner_step_case import Rollouts, Size, make_learner
from benchmarks.machine import header
from configs.schema import ComputeConfig, Credit
from learner.batcher import Batch
from learner.learner import Learner

TARGET = 1.03
"""A step with exact RTRL may take at most so many steps with TBPTT."""
FULL, QUICK = Size(100, 32, 512, "deep"), Size(10, 4, 64, "deep", frame=64)
ARMS: dict[str, Credit] = {"tbptt": "tbptt", "rtrl": "rtrl", "again": "tbptt"}
LAPS = ("forward", "backward", "optimizer")
UNITS = ("ms", "cpu_ms")


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in learner.policy.named_parameters() if p.grad is not None}


def distance(ours: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> tuple[float, str]:
    """The largest relative difference of a gradient, in norm, and the parameter's name."""
    assert ours.keys() == truth.keys()
    return max(
        (((ours[name] - g).norm() / g.norm().clamp(min=1e-30)).item(), name) for name, g in truth.items()
    )


def check(learners: dict[str, Learner], batch: Batch) -> dict[str, float]:
    """The first step of each, which also warms up. The second TBPTT tells what rounding alone does.

    SystemExit unless RTRL's gradients, from zero traces, are TBPTT's to twice that rounding and a little.
    """
    metrics = {name: learner.update(batch) for name, learner in learners.items()}
    truth = gradients(learners["tbptt"])
    rounding, _ = distance(gradients(learners["again"]), truth)
    off, where = distance(gradients(learners["rtrl"]), truth)
    norms = {name: m["losses/grad_norm"] for name, m in metrics.items()}
    off = max(off, abs(norms["rtrl"] / norms["tbptt"] - 1.0))  # clipping hides a common factor, this does not
    bound = 2 * rounding + 1e-5
    if not off <= bound:
        raise SystemExit(
            f"WRONG: from zero traces RTRL's gradient is off TBPTT's by {off:.1e} ({where}), and {bound:.1e} "
            "is allowed, so no speed is reported"
        )
    return {"rtrl_off_tbptt": off, "tbptt_off_itself": rounding}


def timed(learner: Learner, batch: Batch) -> dict[str, float]:
    """ms of one step, CPU ms of the process (all threads), and the step's laps."""
    on_gpu = learner.device.type == "cuda"
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if on_gpu else (None, None)
    begin_s, begin_cpu = time.perf_counter(), time.process_time()
    if begin is not None:
        begin.record()
    metrics = learner.update(batch)
    cpu_ms, ms = 1e3 * (time.process_time() - begin_cpu), 1e3 * (time.perf_counter() - begin_s)
    if begin is not None and end is not None:
        end.record()
        end.synchronize()
        ms = begin.elapsed_time(end)
    laps = {f"{lap}_ms": metrics[f"perf/time_{lap}_ms"] for lap in LAPS}
    return {"ms": ms, "cpu_ms": cpu_ms, **laps, "trace_breaks": metrics.get("rtrl/trace_breaks", 0.0)}


def measure(size: Size, device: torch.device, rounds: int) -> dict[str, Any]:
    """Errors, a row for each round, and over the rounds the ratios and what RTRL adds."""
    rollouts = Rollouts(size, device)
    learners = {name: make_learner(size, credit, device) for name, credit in ARMS.items()}
    errors = check(learners, rollouts.next_batch())
    rows: list[dict[str, dict[str, float]]] = []
    names = list(ARMS)
    for i, order in enumerate(pairs.in_turns(names, rounds)):
        batch = rollouts.next_batch()
        rows.append({name: timed(learners[name], batch) for name in order})
        assert rows[-1]["rtrl"]["trace_breaks"] == 0, "the streams go on, so that traces are carried"
        times = ", ".join(f"{name} {rows[-1][name]['ms']:.1f} ms" for name in names)
        print(f"{size.encoder}, round {i + 1}: {times}", flush=True)
    return {
        "size": size._asdict(),
        "errors": errors,
        "rounds": rows,
        "ratio": {unit: spread([row["rtrl"][unit] / row["tbptt"][unit] for row in rows]) for unit in UNITS},
        "noise": {unit: spread([row["again"][unit] / row["tbptt"][unit] for row in rows]) for unit in UNITS},
        "tbptt_ms": statistics.median(row["tbptt"]["ms"] for row in rows),
        "added_ms": spread(
            [row["rtrl"]["ms"] - (row["tbptt"]["ms"] + row["again"]["ms"]) / 2 for row in rows]
        ),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, its bootstrap interval, and the extremes."""
    return pairs.summary(values) | {"min": min(values), "max": max(values)}


def _range(values: dict[str, float]) -> str:
    return f"{values['median']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def markdown(result: dict[str, Any]) -> str:
    step, small = result["step"], result["small_encoder"]
    size, errors, share = step["size"], step["errors"], result["added_share"]
    lines = [
        "# A learner step: exact RTRL against TBPTT",
        "",
        f"T = {size['T']}, B = {size['B']}, N = {size['N']}, encoder {size['encoder']}, frames of 4 x "
        f"{size['frame']} x {size['frame']}; {len(step['rounds'])} rounds. Median [95 % interval].",
        "",
        "| | RTRL / TBPTT | a second TBPTT / TBPTT: noise |",
        "|---|---|---|",
        *(f"| {unit} | {_range(step['ratio'][unit])} | {_range(step['noise'][unit])} |" for unit in UNITS),
        "",
        f"- The target is a ratio of at most {TARGET}.",
        f"- With the encoder mlp, the step takes {small['tbptt_ms']:.1f} ms by TBPTT, and RTRL adds "
        f"{_range(small['added_ms'])} ms. That is {share:.4f} of the step above: a ratio of {1 + share:.4f}.",
        f"- From zero traces RTRL's gradients are off TBPTT's by {errors['rtrl_off_tbptt']:.0e}; two runs of "
        f"TBPTT differ by {errors['tbptt_off_itself']:.0e}.",
        "",
        "| round | step | ms | CPU ms | " + " | ".join(f"{lap} ms" for lap in LAPS) + " |",
        "|---" * 7 + "|",
    ]
    for i, row in enumerate(step["rounds"]):
        for name in ARMS:
            numbers = [row[name][f"{key}ms"] for key in ("", "cpu_", *(f"{lap}_" for lap in LAPS))]
            lines.append(f"| {i + 1} | {name} | " + " | ".join(f"{n:.1f}" for n in numbers) + " |")
    if "gradient_ms" in result:
        lines += ["", "Loss and gradient alone, median ms:", ""]
        lines += [f"- {way}: {value}" for way, value in result["gradient_ms"].items()]
    return "\n".join([*lines, "", "```json", json.dumps(result["machine"], indent=2), "```", ""])


def main(arguments: list[str]) -> int:
    parser = verb.parser("learner", __doc__)
    parser.add_argument("--quick", action="store_true", help="a small size, three rounds")
    for name in ("T", "B", "N"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--encoder", choices=("deep", "nature", "shallow"))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--out", type=Path, help="a folder for the result as data and as a table")
    options = parser.parse_args(arguments)
    chosen = {name: getattr(options, name) for name in ("T", "B", "N", "encoder")}
    size = (QUICK if options.quick else FULL)._replace(**{k: v for k, v in chosen.items() if v is not None})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(options.threads)
    print(set_tf32(ComputeConfig(), device), flush=True)
    result: dict[str, Any] = {
        "machine": header() | {"torch_threads": options.threads, "niceness": os.nice(0)},
        "precision": {
            "matmul": torch.backends.cuda.matmul.fp32_precision,
            "convolution": torch.backends.cudnn.conv.fp32_precision,  # pyright: ignore
        },
        "target": TARGET,
        "small_encoder": measure(size._replace(encoder="mlp"), device, 3 if options.quick else 15),
        "step": measure(size, device, options.rounds or (3 if options.quick else pairs.PAIRS)),
    }
    result["added_share"] = result["small_encoder"]["added_ms"]["median"] / result["step"]["tbptt_ms"]
    save(options.out, options.json, device, result)
    if device.type == "cuda":
        from benchmarks.learner_step_graph import compiled_and_captured

        result["gradient_ms"] = compiled_and_captured(size, device)
        save(options.out, options.json, device, result)
    for unit in UNITS if device.type == "cpu" else UNITS[:1]:  # neighbours disturb the CPU's time less
        ratio, noise = result["step"]["ratio"][unit], result["step"]["noise"][unit]
        print(f"RTRL / TBPTT, {unit}: {_range(ratio)}, target {TARGET}; noise {_range(noise)}")
    added = _range(result["small_encoder"]["added_ms"])
    print(f"RTRL adds {added} ms, {result['added_share']:.4f} of the step")
    return 0


def save(folder: Path | None, file: Path | None, device: torch.device, result: dict[str, Any]) -> None:
    verb.save(file, result)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    name = f"learner-step-{device.type}"
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(markdown(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
