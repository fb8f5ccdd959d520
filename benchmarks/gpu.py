"""The table of `benchmarks.beside_torch` on a GPU, in float32 and mixed_float16, in ten minutes.

    python -m benchmarks.gpu --output results [--minutes 9]

Writes OUTPUT/gpu.json, what was measured and on what, and OUTPUT/gpu.md, the rows for RESULTS.md.
PyTorch runs beside it where it has CUDA (float16 by its autocast); else the column is empty.
Without `--tf32` products are rounded as float32 says, on both sides. A row that is not begun
before `--minutes` are over is left out, and named. Without a GPU it runs on the processor, to be
tried:

    python -m benchmarks.gpu --output /tmp/gpu --networks "tiny CNN" --batch_size 8 --rounds 2
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import beside_torch
from benchmarks.pairing import Ratio, pairs
from robust_tf import files

POLICIES = ("float32", "mixed_float16")


def devices() -> tuple[str, Any, str | None]:
    """The words for this device, torch if it is installed, and its device; None: not beside."""
    gpus = tf.config.list_physical_devices("GPU")
    name = "CPU"
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return name, None, None
    if not gpus:
        return name, torch, "cpu"
    return name, torch, "cuda" if torch.cuda.is_available() else None


def measure(
    network: str, method: str, policy: str, options: argparse.Namespace, device: str | None
) -> dict[str, Any]:
    """One row: seconds of each side in each round, and how far what they compute is apart."""
    keras.mixed_precision.set_global_policy(policy)
    half, ball = policy != "float32", beside_torch.Budget(steps=options.steps)
    beside = device is not None and not (half and device == "cpu")
    where = (device or "cpu", half and beside)
    began = time.perf_counter()
    pair = beside_torch.both(network, method, options.batch_size, ball, *where)
    row: dict[str, Any] = {"network": network, "method": method, "policy": policy}
    if beside and not half:
        row["apart"] = beside_torch.agreement(pair)._asdict()
    ours, theirs = beside_torch.steps(pair)
    sides = [ours, theirs] if beside else [ours]
    row["seconds"] = pairs(sides, options.rounds)
    row["in_all"] = time.perf_counter() - began
    return row


def markdown(content: dict[str, Any]) -> str:
    """The rows as a table, and under it on what they were measured."""
    lines = [
        "| step | precision | here, images/s | PyTorch, images/s | PyTorch's time over ours |",
        "|---|---|---|---|---|",
    ]
    batch = content["batch_size"]
    for row in content["rows"]:
        speeds = [f"{batch / np.median(times):.0f}" for times in row["seconds"]]
        ratio = str(Ratio.of(*row["seconds"][::-1])) if len(speeds) == 2 else ""
        cells = [f"{row['network']}, {row['method']}", row["policy"], *speeds]
        cells += [""] * (4 - len(cells))
        lines.append(f"| {' | '.join([*cells, ratio])} |")
    left = f" Left out: {', '.join(content['left_out'])}." if content["left_out"] else ""
    lines.append(
        f"\n`python -m benchmarks.gpu`, {content['device']}, TensorFlow {content['tensorflow']}, "
        f"torch {content['torch']}, batches of {batch}, {content['steps']} attack steps, "
        f"{content['rounds']} pairs in turn.{left}\n"
    )
    return "\n".join(lines)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All rows that there is time for; written after each."""
    name, torch, device = devices()
    tf.config.experimental.enable_tensor_float_32_execution(options.tf32)
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = options.tf32
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cudnn.benchmark = True
        for gpu in tf.config.list_physical_devices("GPU"):  # else TensorFlow takes all memory
            tf.config.experimental.set_memory_growth(gpu, True)
    content: dict[str, Any] = {
        "device": name,
        "tensorflow": tf.__version__,
        "torch": None if torch is None else torch.__version__,
        **{key: getattr(options, key) for key in ("batch_size", "steps", "rounds", "tf32")},
        "rows": [],
        "left_out": [],
    }
    began = time.perf_counter()
    for policy in options.policies:
        for network in options.networks:
            for method in options.methods:
                if time.perf_counter() - began > 60 * options.minutes:
                    content["left_out"].append(f"{network}, {method}, {policy}")
                    continue
                content["rows"].append(measure(network, method, policy, options, device))
                files.write_json(os.path.join(options.output, "gpu.json"), content)
                files.write_text(os.path.join(options.output, "gpu.md"), markdown(content))
                print(markdown(content).splitlines()[len(content["rows"]) + 1], flush=True)
    return content


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    networks, methods = beside_torch.NETWORKS, list(beside_torch.METHODS)
    shown = list(beside_torch.SHOWN)
    parse.add_argument("--output", required=True, help="folder")
    parse.add_argument("--minutes", type=float, default=9.0)
    parse.add_argument("--networks", nargs="+", choices=list(networks), default=shown)
    parse.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parse.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parse.add_argument("--batch_size", type=int, default=128)
    parse.add_argument("--steps", type=int, default=10, help="of the attack")
    parse.add_argument("--rounds", type=int, default=10)
    parse.add_argument("--tf32", action="store_true")
    return parse


def main() -> None:
    """Runs the benchmark."""
    content = run(parser().parse_args())
    if content["left_out"]:
        print(f"left out: {', '.join(content['left_out'])}")


if __name__ == "__main__":
    main()
