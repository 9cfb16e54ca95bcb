"""The bare model on the GPU: images per second of one variant at each batch size, as JSON lines."""

from __future__ import annotations

import json
import sys
import time

import torch
import variants


def main() -> None:
    variant, seconds, *sizes = sys.argv[1:]
    predict = variants.build(variant)
    for size in map(int, sizes):
        images = torch.zeros(size, 3, 224, 224, dtype=torch.uint8)
        for _ in range(3):
            predict(images)  # the result comes back to the CPU, so each call ends when the GPU has done its work
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < float(seconds):
            predict(images)
            done += size
        print(json.dumps({"variant": variant, "batch": size, "per_s": done / elapsed}), flush=True)


if __name__ == "__main__":
    main()
