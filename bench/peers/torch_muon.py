#!/usr/bin/env python3
"""The same work in PyTorch, timed under the same names: a peer of normuon_bench for bench/compare, or by itself.

    build/bench/normuon_bench --list_models >build/models.json
    build/torch-venv/bin/python bench/peers/torch_muon.py --models build/models.json --benchmark_filter=muon

newton_schulz/torch/<compute>/<form>/<m>x<n>/<threads>    form: plain, as public codes write it, or addmm
step/muon/torch/bfloat16/<model>/<threads>                torch.optim.Muon, whose iteration is in bfloat16
step/normuon/torch/<compute>/<model>/<threads>            NorMuon, eager, from its formulas; addmm form
step/adamw/torch/float32/<model>/<threads>                torch.optim.AdamW, fused

With --device cuda the work is on a GPU, is timed by its own clock, and threads stand in the names only.

`python3 -m venv build/torch-venv && build/torch-venv/bin/pip install torch` makes the environment, about 5 GB.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import re
import sys
import time

JORDAN = (3.4445, -4.7750, 2.0315)  # KellerJordan/Muon, muon.py; five times
COMPUTES = ("float32", "bfloat16")
SHAPES = "768x768,768x3072,1024x4096,2048x2048"


def plain(torch, X):
    a, b, c = JORDAN
    for _ in range(5):
        A = X @ X.mT
        B = b * A + c * A @ A
        X = a * X + B @ X
    return X


def addmm(torch, X):
    a, b, c = JORDAN
    for _ in range(5):
        A = X @ X.mT
        B = torch.addmm(A, A, A, beta=b, alpha=c)
        X = torch.addmm(X, B, X, beta=a)
    return X


FORMS = {"plain": plain, "addmm": addmm}


def orthogonalized(torch, G, compute, form):
    X = G.to(getattr(torch, compute))
    if X.shape[0] > X.shape[1]:
        X = X.mT
    X = FORMS[form](torch, X / (X.norm() + 1e-7))
    return X.mT if G.shape[0] > G.shape[1] else X


class NorMuon:
    """arXiv 2510.05491, Algorithm 1: what normuon_options::paper() is."""

    def __init__(self, torch, parameters, compute):
        self.torch, self.parameters, self.compute = torch, parameters, compute
        self.momenta = [torch.zeros_like(p) for p in parameters]
        self.seconds = [torch.zeros(p.shape[0], 1, device=p.device) for p in parameters]

    def step(self, rate=1e-3, beta1=0.95, beta2=0.95, decay=0.1, epsilon=1e-10):
        for W, M, v in zip(self.parameters, self.momenta, self.seconds):
            M.lerp_(W.grad, 1 - beta1)                                       # M <- b1 M + (1-b1) G
            O = orthogonalized(self.torch, M, self.compute, "addmm").float()
            v.lerp_(O.square().mean(1, keepdim=True), 1 - beta2)             # v <- b2 v + (1-b2) r
            D = O / (v.sqrt() + epsilon)                                     # diag(d) O
            D.mul_(0.2 * math.sqrt(D.numel()) / D.norm())                    # c
            W.mul_(1 - rate * decay).sub_(D, alpha=rate)


def random_matrix(torch, rows, cols, generator):
    return torch.rand(rows, cols, generator=generator, device=generator.device) * 2 - 1


def parameters_of(torch, tensors, device):
    """Matrices with gradients; every expert is one of its own."""
    generator = torch.Generator(device).manual_seed(1)
    parameters = []
    for count, rows, cols, batch in tensors:
        for _ in range(count * batch):
            p = torch.nn.Parameter(random_matrix(torch, rows, cols, generator))
            p.grad = random_matrix(torch, rows, cols, generator)
            parameters.append(p)
    return parameters


def benchmarks(options, models):
    """Yields name, threads, and a function that prepares the work and returns it as another."""
    device = options.device
    for threads in options.threads:
        for compute in COMPUTES:
            for m, n in options.shapes:
                for form in FORMS:
                    def iteration(torch, m=m, n=n, compute=compute, form=form):
                        G = random_matrix(torch, m, n, torch.Generator(device).manual_seed(1))
                        return lambda: orthogonalized(torch, G, compute, form)
                    yield f"newton_schulz/torch/{compute}/{form}/{m}x{n}/{threads}", threads, iteration
        for model, tensors in models.items():
            def muon(torch, tensors=tensors):
                return torch.optim.Muon(parameters_of(torch, tensors, device), lr=1e-3, weight_decay=0.1).step
            def adamw(torch, tensors=tensors):
                return torch.optim.AdamW(parameters_of(torch, tensors, device), lr=1e-3, weight_decay=0.01, fused=True).step
            yield f"step/muon/torch/bfloat16/{model}/{threads}", threads, muon
            yield f"step/adamw/torch/float32/{model}/{threads}", threads, adamw
            for compute in COMPUTES:
                def normuon(torch, tensors=tensors, compute=compute):
                    return NorMuon(torch, parameters_of(torch, tensors, device), compute).step
                yield f"step/normuon/torch/{compute}/{model}/{threads}", threads, normuon


def timed(work, least):
    """Returns the milliseconds of one call, and of how many that is the mean."""
    work()  # what is made once: state, kernels
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < least:
        work()
        calls += 1
    return (time.perf_counter() - start) / calls * 1e3, calls


def timed_on_gpu(torch, work, least):
    """The same by events around calls that follow each other, as many as take so long."""
    for _ in range(3):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    calls, milliseconds = 1, 0.0
    while milliseconds < least * 1e3:
        calls *= 2
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        milliseconds = begin.elapsed_time(end)
    return milliseconds / calls, calls


def gpu_missing(torch):
    """Why PyTorch has no GPU; an empty text where it has one."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    return "" if torch.cuda.is_available() else f"torch {torch.__version__} finds no CUDA device"


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=SHAPES, help="m x n, ...; default %(default)s")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default %(default)s")
    parser.add_argument("--threads", default=str(os.cpu_count()), help="numbers of threads, ...; default %(default)s")
    parser.add_argument("--models", type=pathlib.Path, help="from normuon_bench --list_models; none: no steps")
    parser.add_argument("--benchmark_filter", default=".", help="a regular expression")
    parser.add_argument("--benchmark_min_time", type=float, default=0.5, help="seconds; default %(default)s")
    parser.add_argument("--benchmark_out", type=pathlib.Path, help="JSON; default: the standard output")
    parser.add_argument("--benchmark_out_format", choices=["json"], default="json")
    parser.add_argument("--benchmark_list_tests", action="store_true")
    options = parser.parse_args()
    try:
        options.shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
        options.threads = [int(n) for n in options.threads.split(",")]
        if any(len(shape) != 2 for shape in options.shapes):
            raise ValueError("expected shapes of two numbers")
    except ValueError as e:
        parser.error(f"--shapes or --threads: {e}")
    return options


def main():
    options = parsed()
    models = json.loads(options.models.read_text(encoding="utf-8")) if options.models else {}
    chosen = [b for b in benchmarks(options, models) if re.search(options.benchmark_filter, b[0] + "/real_time")]
    if options.benchmark_list_tests:
        print(*(f"{name}/real_time" for name, _, _ in chosen), sep="\n")
        return 0
    try:
        import torch
    except ImportError as e:
        sys.exit(f"{sys.argv[0]}: {sys.executable} has no torch ({e})")
    if options.device == "cuda" and gpu_missing(torch):
        sys.exit(f"{sys.argv[0]}: --device cuda: {gpu_missing(torch)}")
    if not hasattr(torch.optim, "Muon"):
        chosen = [b for b in chosen if not b[0].startswith("step/muon/")]
    results = []
    with torch.no_grad():
        for name, threads, prepare in chosen:
            torch.set_num_threads(threads)
            work, least = prepare(torch), options.benchmark_min_time
            milliseconds, calls = timed(work, least) if options.device == "cpu" else timed_on_gpu(torch, work, least)
            results.append({"name": f"{name}/real_time", "run_name": f"{name}/real_time", "run_type": "iteration",
                            "family_index": len(results), "per_family_instance_index": 0, "repetitions": 1,
                            "repetition_index": 0, "threads": 1, "iterations": calls, "real_time": milliseconds,
                            "cpu_time": milliseconds, "time_unit": "ms"})
            print(f"{name:60} {milliseconds:10.3f} ms {calls:8}", file=sys.stderr)
    context = {"date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "executable": sys.argv[0],
               "num_cpus": os.cpu_count(), "torch": torch.__version__, "device": options.device}
    text = json.dumps({"context": context, "benchmarks": results}, indent=1) + "\n"
    if options.benchmark_out:
        options.benchmark_out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0 if results else 1


sys.exit(main())
