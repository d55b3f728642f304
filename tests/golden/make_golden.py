#!/usr/bin/env python3
"""Makes the golden files of this folder: runs the public Python optimizers, unchanged, in float64.

    OMP_NUM_THREADS=1 python make_golden.py --sources DIR --out DIR

DIR/<owner>/<name> holds a checkout of each repository listed in README.md and DIR/commits.json maps
"<owner>/<name>" to its commit. Needs torch 2.15 (for torch.optim.Muon and AdamW), numpy, absl-py.
Nothing of the public code is repeated here; section 2 is written from the formulas alone and checks it.
"""
import argparse, ast, contextlib, dataclasses, importlib, importlib.util, json, math, struct, sys, types, zlib
from pathlib import Path

import numpy as np
import torch

# ---------------------------------------------------------------- 1. public code, float64


@contextlib.contextmanager
def everything_float64():
    """Inside, every narrower float type of torch is float64, casts copy, and torch.compile is the identity."""
    narrow = ("float32", "float16", "bfloat16", "uint16")
    casts = ("float", "half", "bfloat16")
    kept = {n: getattr(torch, n) for n in narrow}
    kept_casts = {n: getattr(torch.Tensor, n) for n in casts}
    for n in narrow:
        setattr(torch, n, torch.float64)
    for n in casts:
        setattr(torch.Tensor, n, lambda self: self.to(torch.float64, copy=True))
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        for n, t in kept.items():
            setattr(torch, n, t)
        for n, f in kept_casts.items():
            setattr(torch.Tensor, n, f)
        torch.set_default_dtype(torch.float32)


def no_compile(*args, **_):
    return args[0] if args else (lambda f: f)


class Sources:
    """Finds and loads the public code."""

    def __init__(self, root):
        self.root = Path(root)
        self.commits = json.loads((self.root / "commits.json").read_text())
        torch.compile = no_compile
        sys.path[:0] = [str(self.root / r) for r in ("microsoft/dion", "Dao-AILab/gram-newton-schulz")]

    def name(self, repo, file):
        return f"{repo} {file} {self.commits[repo]}"

    def file_module(self, repo, file):
        spec = importlib.util.spec_from_file_location(Path(file).stem + "_public", self.root / repo / file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def package(self, name):
        return importlib.import_module(name)

    def fragment(self, repo, file, names, namespace, edit=None):
        """Executes only the named top-level definitions of a file that cannot be imported whole."""
        tree = ast.parse((self.root / repo / file).read_text())
        def is_wanted(node):
            return getattr(node, "name", None) in names or (
                isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in names)
        body = [n for n in tree.body if is_wanted(n)]
        assert len(body) == len(names), (names, len(body))
        tree = ast.Module(body=body, type_ignores=[])
        module = types.ModuleType(Path(file).stem + "_fragment")
        module.__dict__.update(namespace)
        sys.modules[module.__name__] = module
        exec(compile(ast.fix_missing_locations(edit(tree) if edit else tree), file, "exec"), module.__dict__)
        return module

    def reference(self):
        return self.file_module("zichongli5/NorMuon", "normuon.py")

    def jordan(self):
        return self.file_module("KellerJordan/Muon", "muon.py")

    def moonlight(self):
        return self.fragment("MoonshotAI/Moonlight", "examples/toy_train.py",
                             ["zeropower_via_newtonschulz5", "Muon"], dict(torch=torch, math=math))

    def nanogpt(self):
        """The GPU-only pieces are replaced: three symmetric products by plain ones, the 16+16 bit weight by one float64."""
        def xxt(x, out): torch.matmul(x, x.mT, out=out)
        def xtx(x, out): torch.matmul(x.mT, x, out=out)
        def ba_plus_caa(a, alpha, beta, out): out.copy_(beta * a + alpha * (a @ a.mT))

        def edit(tree):
            for f in ast.walk(tree):
                if isinstance(f, ast.FunctionDef) and f.name == "_cautious_wd_and_update_inplace":
                    bits = ("p_precise_raw", "mantissa", "uint16")
                    f.body = [s for s in f.body if not any(b in ast.unparse(s) for b in bits)]
                    f.args.args[0].arg = "p_precise"
            return tree

        return self.fragment(
            "KellerJordan/modded-nanogpt", "train_gpt.py",
            ["polar_express_coeffs", "polar_express", "ParamConfig", "NorMuonAndAdam"],
            dict(torch=torch, Tensor=torch.Tensor, nn=torch.nn, dist=torch.distributed, dataclass=dataclasses.dataclass,
                 XXT=xxt, XTX=xtx, ba_plus_cAA=ba_plus_caa), edit)

    def dion(self):
        return self.package("dion.normuon")


def run_public(case, src):
    """Returns (Ws, M, v, source) of the public code, or None where there is none (preset paper)."""
    W, Gs = case.data()
    p = torch.nn.Parameter(torch.tensor(W))
    first = dict(lr=case.lr(0), weight_decay=case.weight_decay)
    momentum, Ws = case.mu(0), []
    step = lambda: opt.step()

    if case.preset == "paper":
        return None
    if case.preset == "reference":
        mod, source = src.reference(), src.name("zichongli5/NorMuon", "normuon.py, SingleDeviceNorMuon")
        if not case.nesterov:
            update = mod.normuon_update
            mod.normuon_update = lambda *a, **k: update(*a, nesterov=False, **k)
        opt = mod.SingleDeviceNorMuon([p], momentum=momentum, beta2=case.beta2, **first)
        names = ("momentum_buffer", "second_momentum_buffer")
    elif case.preset == "jordan":
        mod, source = src.jordan(), src.name("KellerJordan/Muon", "muon.py, SingleDeviceMuon")
        if not case.nesterov:
            update = mod.muon_update
            mod.muon_update = lambda *a, **k: update(*a, nesterov=False, **k)
        opt = mod.SingleDeviceMuon([p], momentum=momentum, **first)
        names = ("momentum_buffer", None)
    elif case.preset == "moonlight":
        mod, source = src.moonlight(), src.name("MoonshotAI/Moonlight", "examples/toy_train.py, Muon")
        opt = mod.Muon(lr=case.lr(0), wd=case.weight_decay, muon_params=[p], momentum=momentum,
                       nesterov=case.nesterov, ns_steps=case.ns_steps)
        step, names = torch.no_grad()(opt.step), ("momentum_buffer", None)
    elif case.preset == "dion":
        mod, source = src.dion(), src.name("microsoft/dion", "dion/normuon.py, NorMuon")
        opt = mod.NorMuon([p], mu=momentum, muon_beta2=case.beta2, epsilon=1e-8, nesterov=case.nesterov,
                          cautious_wd=case.decay == "cautious", adjust_lr="spectral_norm", **first)
        names = ("momentum", "variance_neuron")
    elif case.preset == "torch_muon":
        source = f"pytorch/pytorch torch/optim/_muon.py, Muon, package torch {torch.__version__.split('+')[0]}"
        opt = torch.optim.Muon([p], momentum=momentum, nesterov=case.nesterov, ns_steps=case.ns_steps,
                               adjust_lr_fn=case.torch_scale, **first)
        names = ("momentum_buffer", None)
    elif case.preset == "adamw":
        source = f"pytorch/pytorch torch/optim/adamw.py, AdamW, package torch {torch.__version__.split('+')[0]}"
        opt = torch.optim.AdamW([p], betas=(momentum, case.beta2), eps=case.epsilon, foreach=False, fused=False, **first)
        names = ("exp_avg", "exp_avg_sq")
    elif case.preset == "nanogpt":
        mod, source = src.nanogpt(), src.name("KellerJordan/modded-nanogpt", "train_gpt.py, NorMuonAndAdam")
        p.label, p.reshape = "w", (1, *p.shape)
        opt = mod.NorMuonAndAdam([("w", p)], {"w": {"optim": "normuon", "comms": "sharded"}}, ["w"], ["w"], {},
                                 dict(momentum=momentum, beta2=case.beta2, **first))
        names = ("momentum_buffer", "second_momentum_buffer")

    for k, G in enumerate(Gs):
        if case.preset == "nanogpt":
            cfg = opt.param_cfgs[p]
            cfg.lr, cfg.momentum = case.lr(k), case.mu(k)
        else:
            opt.param_groups[0]["lr"] = case.lr(k)
            if isinstance(case.momentum, list):
                opt.param_groups[0]["mu" if case.preset == "dion" else "momentum"] = case.mu(k)
        p.grad = torch.tensor(G)
        step()
        Ws.append(p.detach().numpy().copy())
    state = opt.param_states[p] if case.preset == "nanogpt" else opt.state[p]
    M, v = (state[n].numpy().copy() if n else None for n in names)
    return Ws, M.reshape(W.shape), v, source


# ---------------------------------------------------------------- 2. the formulas, in numpy, written independently

JORDAN = [(3.4445, -4.7750, 2.0315)] * 5
PE_102 = [(8.156554524902461, -22.48329292557795, 15.878769915207462),
          (4.042929935166739, -2.808917465908714, 0.5000178451051316),
          (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
          (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
          (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]


@dataclasses.dataclass(frozen=True)
class Preset:
    """What the formulas need to know. norm: X = U/(factor*||U|| + add), or U/max(||U||, floor)."""
    momentum_form: str = "ema"
    nesterov: bool = True
    table: str = "jordan"
    factor: float = 1.0
    add: float = 0.0
    floor: float = 0.0
    second_moment: str = ""          # "", "rows", "longer"
    epsilon: float = 0.0
    epsilon_form: str = ""           # "after_root": 1/(sqrt(v)+eps), "clamp": 1/sqrt(max(v,eps))
    ratio: float = 0.0               # epsilon of ||O||/||O^||: added
    ratio_floor: float = 0.0         # or a floor
    scale: str = "sqrt_max_1_ratio"
    decay: str = "decoupled"


PRESETS = {
    "paper": Preset(nesterov=False, second_moment="rows", epsilon=1e-10, epsilon_form="after_root", scale="rms_0.2"),
    "reference": Preset(add=1e-7, second_moment="rows", epsilon=1e-10, epsilon_form="after_root", ratio=1e-10,
                        scale="keep_norm*sqrt_max_1_ratio"),
    "nanogpt": Preset(table="polar_express_1.02", factor=1.02, add=1e-6, second_moment="longer", epsilon=1e-10,
                      epsilon_form="clamp", ratio_floor=1e-10, scale="keep_norm*sqrt_max_1_ratio", decay="cautious"),
    "dion": Preset("heavy_ball", nesterov=False, table="polar_express_1.02", factor=1.02, add=1e-8, second_moment="rows",
                   epsilon=1e-8, epsilon_form="after_root", ratio_floor=1e-8, scale="keep_norm*sqrt_ratio"),
    "jordan": Preset(add=1e-7),
    "torch_muon": Preset(floor=1e-7),
    "moonlight": Preset("heavy_ball", add=1e-7, scale="0.2*sqrt_max_side"),
    "adamw": Preset(nesterov=False, table="", epsilon=1e-8, epsilon_form="after_root", scale="1"),
}


def polynomial(X, table):
    for a, b, c in table:
        A = X @ X.T
        X = a * X + (b * A + c * (A @ A)) @ X
    return X


def orthogonalize(U, preset, ns_steps, drop_epsilon):
    norm = np.sqrt((U * U).sum())
    if norm == 0:
        return np.zeros_like(U)
    add, floor = (0.0, 0.0) if drop_epsilon else (preset.add, preset.floor)
    X = U / max(preset.factor * norm + add, floor)
    table = JORDAN[:1] * ns_steps if preset.table == "jordan" else PE_102
    return polynomial(X.T, table).T if X.shape[0] > X.shape[1] else polynomial(X, table)


def run_formulas(case, drop_epsilon=False):
    """The formulas of one preset, step by step, for one case; drop_epsilon removes the absolute epsilon before the iteration."""
    pre = PRESETS[case.preset]
    W, Gs = case.data()
    m, n = W.shape
    M, v, Ws = np.zeros_like(W), None, []
    if case.preset == "adamw":
        v = np.zeros_like(W)
        for k, G in enumerate(Gs):
            b1, b2, lr, t = case.mu(k), case.beta2, case.lr(k), k + 1
            M = b1 * M + (1 - b1) * G
            v = b2 * v + (1 - b2) * G * G
            W = W - lr * case.weight_decay * W - lr * (M / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + case.epsilon)
            Ws.append(W)
        return Ws, M, v
    scale = case.torch_scale or pre.scale
    shape_factor = {"rms_0.2": 1.0, "keep_norm*sqrt_ratio": math.sqrt(m / n),
                    "0.2*sqrt_max_side": 0.2 * math.sqrt(max(m, n)), "match_rms_adamw": 0.2 * math.sqrt(max(m, n)),
                    }.get(scale, math.sqrt(max(1.0, m / n)))
    for k, G in enumerate(Gs):
        lr, b1 = case.lr(k), case.mu(k)
        g = G if pre.momentum_form == "heavy_ball" else (1 - b1) * G
        M = b1 * M + g
        U = b1 * M + g if case.nesterov else M
        O = orthogonalize(U, pre, case.ns_steps, drop_epsilon)
        if pre.second_moment:
            over_rows = pre.second_moment == "rows" or m >= n
            r = (O * O).mean(axis=1 if over_rows else 0, keepdims=True)
            v = case.beta2 * (0 if v is None else v) + (1 - case.beta2) * r
            d = 1 / (np.sqrt(v) + pre.epsilon) if pre.epsilon_form == "after_root" else 1 / np.sqrt(np.maximum(v, pre.epsilon))
            N = d * O
            norm_O, norm_N = np.sqrt((O * O).sum()), np.sqrt((N * N).sum())
            if scale == "rms_0.2":
                O = N * (0.2 * math.sqrt(m * n) / norm_N if norm_N else 0.0)
            else:
                O = N * (norm_O / max(norm_N + pre.ratio, pre.ratio_floor))
        coefficient = lr * case.weight_decay
        if case.preset == "nanogpt":
            coefficient *= lr * shape_factor
        if case.decay == "cautious":
            coefficient = coefficient * (O * W >= 0)
        W = W - coefficient * W - lr * shape_factor * O
        Ws.append(W)
    return Ws, M, v


# ---------------------------------------------------------------- 3. cases


@dataclasses.dataclass
class Case:
    preset: str
    name: str
    m: int
    n: int
    steps: int = 5
    learning_rate: object = 0.02            # a number, or a list with one per step
    weight_decay: float = 0.0
    momentum: object = 0.95                 # likewise
    beta2: float = 0.95
    epsilon: float = None
    nesterov: bool = None
    decay: str = None
    ns_steps: int = 5
    torch_scale: str = None                 # torch.optim.Muon's adjust_lr_fn
    grad_scale: float = 1.0
    zero_rows: tuple = ()
    zero_cols: tuple = ()
    zero_steps: tuple = ()
    last_only: bool = False                 # write only the last expected W
    salt: int = 0
    note: str = ""

    def __post_init__(self):
        pre = PRESETS[self.preset]
        self.epsilon = pre.epsilon if self.epsilon is None else self.epsilon
        self.nesterov = pre.nesterov if self.nesterov is None else self.nesterov
        self.decay = self.decay or pre.decay

    def lr(self, k):
        return self.learning_rate[k] if isinstance(self.learning_rate, list) else self.learning_rate

    def mu(self, k):
        return self.momentum[k] if isinstance(self.momentum, list) else self.momentum

    def data(self):
        """W and the gradients: a shared signal plus noise, rows and columns of very different size; all exact in float32
        (before grad_scale, which is exact only where it is a power of two)."""
        rng = np.random.default_rng([zlib.crc32(f"{self.preset}/{self.name}".encode()), self.salt])
        f32 = lambda x: x.astype(np.float32).astype(np.float64)
        W = f32(0.5 * rng.standard_normal((self.m, self.n)))
        row, col = np.exp(0.7 * rng.standard_normal((self.m, 1))), np.exp(0.5 * rng.standard_normal((1, self.n)))
        signal = rng.standard_normal((self.m, self.n))
        Gs = []
        for k in range(self.steps):
            G = f32(row * col * (0.6 * signal + rng.standard_normal((self.m, self.n)))) * self.grad_scale
            G[list(self.zero_rows), :] = 0
            G[:, list(self.zero_cols)] = 0
            Gs.append(np.zeros_like(G) if k in self.zero_steps else G)
        return W, Gs


def shared_cases(preset):
    """The cases of this folder for one preset."""
    b2 = 0.999 if preset == "adamw" else 0.95
    lr, mom = (1e-2, 0.9) if preset == "adamw" else (0.02, 0.95)
    wd = 0.1 if preset != "nanogpt" else 1.2
    base = dict(beta2=b2, learning_rate=lr, momentum=mom)
    C = lambda name, m, n, **k: Case(preset, name, m, n, **{**base, **k})
    cases = [
        C("1x1", 1, 1, weight_decay=wd, salt=22), C("1x8", 1, 8), C("8x1", 8, 1, weight_decay=wd),
        C("16x16", 16, 16), C("17x29_decay", 17, 29, steps=4, weight_decay=wd),
        C("29x17_zero_rows", 29, 17, steps=4, weight_decay=wd, zero_rows=(0, 11)),
        C("12x20_tiny", 12, 20, steps=4, weight_decay=wd, grad_scale=1e-12),
        C("20x12_huge", 20, 12, steps=4, weight_decay=wd, grad_scale=1e12),
        C("12x20_zero_gradient", 12, 20, weight_decay=wd, zero_steps=(0, 2),
          note="G.0 and G.2 are zero: step 0 has a zero momentum too, step 2 has not"),
        C("20x12_schedule", 20, 12, weight_decay=wd, learning_rate=[lr * f for f in (0.25, 0.5, 1.0, 0.75, 0.125)]),
    ]
    if preset == "nanogpt":
        cases += [C("17x29_zero_columns", 17, 29, steps=4, weight_decay=wd, zero_cols=(4, 28)),
                  C("12x20_momentum_schedule", 12, 20, momentum=[0.85, 0.87, 0.9, 0.95, 0.9], weight_decay=wd),
                  C("16x12_beta2", 16, 12, steps=4, beta2=0.9)]
    if preset == "dion":
        cases += [C("17x29_cautious", 17, 29, steps=4, weight_decay=wd, decay="cautious"),
                  C("20x12_nesterov", 20, 12, nesterov=True)]
    if preset == "torch_muon":
        cases += [C("20x12_match_rms_adamw", 20, 12, weight_decay=wd, torch_scale="match_rms_adamw"),
                  C("12x20_no_nesterov", 12, 20, nesterov=False)]
    if preset == "moonlight":
        cases += [C("12x20_no_nesterov", 12, 20, nesterov=False)]
    if preset == "adamw":
        cases += [C("17x29_momentum_0", 17, 29, steps=4, momentum=0.0, epsilon=1e-6)]
    big = {"paper": [(32, 128)], "reference": [(128, 32)], "nanogpt": [(32, 128)], "dion": [(48, 64)]}.get(preset, [])
    cases += [C(f"{m}x{n}", m, n, steps=4, weight_decay=wd, last_only=True) for m, n in big]
    return cases


QUIRKS = {
    "paper": "no public code: made by the independent implementation from Algorithm 1; X = M/||M|| without epsilon; a zero norm gives a zero update",
    "reference": "||O||/(||O^||+1e-10) as well as 1/(sqrt(v)+1e-10); the gradient is overwritten in place; 1e-7 is added to the norm before the iteration",
    "nanogpt": "decay is lr*lr*weight_decay*sqrt(max(1,m/n)) where O^*W >= 0 (zero counts as agreeing); v is kept unclamped, 1e-10 is a floor used when read; v belongs to the longer side, rows when square; the last table row keeps no safety factor",
    "dion": "the option epsilon (1e-8) only enters the norm before the iteration; 1e-8 after the root and the 1e-8 floor of ||O^|| are constants; sqrt(m/n) shrinks wide matrices; cautious counts zero as agreeing",
    "jordan": "1e-7 is added to the norm before the iteration; the decay uses the unscaled lr; the gradient is overwritten in place",
    "moonlight": "1e-7 is added to the norm before the iteration; Nesterov is G + momentum*M with M already updated; the decay uses the unscaled lr",
    "torch_muon": "the documentation says heavy ball, the code is EMA; the norm has a floor of 1e-7 (its option eps) instead of an added epsilon; Nesterov off leaves U = M",
    "adamw": "epsilon is added after the bias correction of v; W is decayed before the update, which is the same formula",
}


def metadata(case, source, difference, effect):
    pre = PRESETS[case.preset]
    scale = {"match_rms_adamw": "0.2*sqrt_max_side"}.get(case.torch_scale, pre.scale)
    meta = dict(preset=case.preset, source=source, weight_decay=case.weight_decay, beta2=case.beta2, epsilon=case.epsilon,
                steps=case.ns_steps, nesterov=case.nesterov, neuron_axis=pre.second_moment, orthogonalizer=pre.table,
                scale=scale, decay=case.decay, momentum_form=pre.momentum_form, quirk=QUIRKS[case.preset], note=case.note,
                difference_from_formulas=f"{difference:.1e}",
                norm_epsilon=(f"{pre.factor:g}*norm + {pre.add:g}" if pre.add else f"max(norm, {pre.floor:g})" if pre.floor
                              else "none"),
                norm_epsilon_effect=f"{effect:.1e}")
    if not pre.second_moment and case.preset != "adamw":
        for key in ("beta2", "epsilon"):
            meta.pop(key)
    if case.preset == "adamw":
        for key in ("steps", "orthogonalizer", "neuron_axis", "scale", "norm_epsilon", "norm_epsilon_effect"):
            meta.pop(key)
    for one, many, value in (("learning_rate", "learning_rates", case.learning_rate), ("momentum", "momenta", case.momentum)):
        meta[many if isinstance(value, list) else one] = value
    if case.preset == "nanogpt" and case.weight_decay:
        factor = math.sqrt(max(1.0, case.m / case.n)) * case.weight_decay
        rates = [case.lr(k) * factor for k in range(case.steps)]
        meta["weight_decay_equivalent"] = rates if isinstance(case.learning_rate, list) else rates[0]
    text = lambda x: x if isinstance(x, str) else json.dumps(x)
    return {k: text(x) for k, x in sorted(meta.items()) if text(x) != ""}


def relative(a, b):
    """Largest difference over the largest expected value."""
    top = np.abs(b).max()
    return float(np.abs(a.ravel() - b.ravel()).max() / top) if top else float(np.abs(a).max())


def save(path, tensors, metadata):
    """A safetensors file whose bytes depend on its content alone: names sorted, header padded to 8 bytes."""
    header, raw = {"__metadata__": dict(sorted(metadata.items()))}, b""
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        piece = array.tobytes()
        header[name] = dict(dtype={"float64": "F64", "float32": "F32"}[array.dtype.name], shape=list(array.shape),
                            data_offsets=[len(raw), len(raw) + len(piece)])
        raw += piece
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + raw)


def make_case(case, src, out):
    """Writes one file; returns (file name, difference between public code and formulas, effect of the norm epsilon)."""
    W, Gs = case.data()
    mine = run_formulas(case)
    bare = run_formulas(case, drop_epsilon=True)
    with everything_float64():
        public = run_public(case, src)
    if public is None:
        (Ws, M, v), source, difference = mine, "arXiv 2510.05491 Algorithm 1; no public code", 0.0
    else:
        Ws, M, v, source = public
        pairs = list(zip(mine[0], Ws)) + [(mine[1], M)] + ([(mine[2], v)] if v is not None else [])
        difference = max(relative(a, b) for a, b in pairs)
    effect = max(relative(a, b) for a, b in zip(bare[0], Ws))
    tensors = {"W": W, **{f"G.{k}": G for k, G in enumerate(Gs)}, "M": M}
    last = len(Ws) - 1
    tensors.update({f"W.{k}": w for k, w in enumerate(Ws) if k == last or not case.last_only})
    if v is not None:
        tensors["v"] = v if case.preset == "adamw" else v.reshape(-1)
    if max(effect, relative(bare[2], v) if v is not None else 0.0) > 1e-13:
        tensors.update({f"noeps.W.{k}": w for k, w in enumerate(bare[0]) if k == last})
        if v is not None:
            tensors["noeps.v"] = bare[2].reshape(-1)
    file = f"{case.preset}.{case.name}.safetensors"
    save(Path(out) / file, tensors, metadata(case, source, difference, effect))
    return file, difference, effect


# ---------------------------------------------------------------- 4. orthogonalizers and bf16


def orthogonalizer_inputs():
    """Frobenius norm about 1e9, so that no absolute epsilon of any public code shows."""
    rng = np.random.default_rng(7)
    shapes = [(1, 1), (1, 8), (8, 1), (16, 16), (17, 29), (29, 17), (24, 48), (48, 24)]
    X = [rng.standard_normal(s) * np.exp(0.7 * rng.standard_normal((s[0], 1))) for s in shapes]
    names = [f"{m}x{n}" for m, n in shapes]
    q = lambda: np.linalg.qr(rng.standard_normal((64, 64)))[0]
    X.append(q() @ np.diag(np.logspace(0, -8, 64)) @ q().T)
    X.append(rng.standard_normal((16, 1)) @ rng.standard_normal((1, 24)))
    scaled = [x * 2.0 ** np.round(np.log2(1e9 / np.linalg.norm(x))) for x in X]
    return scaled, names + ["64x64 condition 1e8", "16x24 rank 1"]


def make_orthogonalizers(src, out):
    with everything_float64():
        jordan, nano = src.jordan(), src.nanogpt()
        you = src.package("dion.newton_schulz_triton")
        gns = src.package("gram_newton_schulz.gram_newton_schulz")
        gns_tables = src.package("gram_newton_schulz.coefficients")
        eo = src.fragment("NVIDIA-NeMo/Emerging-Optimizers", "emerging_optimizers/orthogonalized_optimizers/muon_utils.py",
                          ["_COEFFICIENT_SETS", "CoeffIterMode", "NSCoeffT", "get_coefficient_iterator", "newton_schulz",
                           "newton_schulz_step", "batched_newton_schulz_step"], eo_namespace())
        simple = [(2.0, -1.5, 0.5)] * 12
        nano_call = lambda X: nano.polar_express(X.clone(), torch.zeros_like(X), torch.tensor(0.0))
        plain = dict(ns_use_kernels=False, compile_kwargs=None)
        codes = {
            "jordan": (lambda X: jordan.zeropower_via_newtonschulz5(X, steps=5), "KellerJordan/Muon", "muon.py"),
            "you": (lambda X: you.zeropower_via_newtonschulz5(X), "microsoft/dion", "dion/newton_schulz_triton.py"),
            "polar_express_1.02": (nano_call, "KellerJordan/modded-nanogpt", "train_gpt.py"),
            "polar_express_dao": (gns.StandardNewtonSchulz(**plain), "Dao-AILab/gram-newton-schulz",
                                  "gram_newton_schulz/gram_newton_schulz.py"),
            "polar_express_dao_gram": (gns.GramNewtonSchulz(gram_newton_schulz_reset_iterations=[2], **plain),
                                       "Dao-AILab/gram-newton-schulz", "gram_newton_schulz/gram_newton_schulz.py"),
            "polar_express_1.01": (lambda X: eo.newton_schulz(X, 5, "polar_express"), "NVIDIA-NeMo/Emerging-Optimizers",
                                   "emerging_optimizers/orthogonalized_optimizers/muon_utils.py"),
            "deepseek_v4": (lambda X: eo.newton_schulz(X, 10, "deepseekv4"), "NVIDIA-NeMo/Emerging-Optimizers",
                            "emerging_optimizers/orthogonalized_optimizers/muon_utils.py"),
            "simple_12": (lambda X: eo.newton_schulz(X, 12, "custom", simple), "NVIDIA-NeMo/Emerging-Optimizers",
                          "emerging_optimizers/orthogonalized_optimizers/muon_utils.py"),
        }
        eo_sets = eo._COEFFICIENT_SETS
        raw = gns_tables._unmodified_polar_express_coefficients
        tables = {
            "jordan": ([(3.4445, -4.7750, 2.0315)] * 5, 1.0, "one row, used five times"),
            "you": (gns_tables.YOU_COEFFICIENTS, 1.0, "the same numbers are in dion/newton_schulz_triton.py"),
            "polar_express_1.02": (nano.polar_express_coeffs, 1.02, "the norm is multiplied by 1.02; the safety factor is in "
                                   "every row but the last; the same numbers are in dion/polar_express.py"),
            "polar_express_dao": (gns_tables.POLAR_EXPRESS_COEFFICIENTS, 1.0, "raw rows divided by 1.05, 1.05^3, 1.05^5; "
                                  "the norm is not multiplied"),
            "polar_express_dao_raw": (raw, 1.0, "before the division"),
            "polar_express_1.01": (eo_sets["polar_express"][:5], 1.0, "the first five of eight rows; the eighth is the fixed "
                                   "point and is repeated; the norm is not multiplied"),
            "polar_express_1.01_8": (eo_sets["polar_express"], 1.0, "all eight rows"),
            "deepseek_v4": (eo_sets["deepseekv4"], 1.0, "ten steps"),
            "simple_12": (simple, 1.0, "passed to the public code as a custom table"),
        }
        X, names = orthogonalizer_inputs()
        tensors = {f"X.{i}": x for i, x in enumerate(X)}
        meta = {f"X.{i}": n for i, n in enumerate(names)}
        table_of = lambda name: name.removesuffix("_gram")
        report = {}
        for name, (f, repo, file) in codes.items():
            rows, factor, _ = tables[table_of(name)]
            differences = {}
            for i, x in enumerate(X):
                y = f(torch.tensor(x)).numpy()
                tensors[f"{name}.{i}"] = y
                z = x / (factor * np.linalg.norm(x))
                z = polynomial(z.T, rows).T if x.shape[0] > x.shape[1] else polynomial(z, rows)
                differences[names[i]] = relative(z, y)
            worst = max(differences, key=differences.get)
            report[name] = f"{differences[worst]:.1e} at {worst}"
            meta[name] = f"{src.name(repo, file)}; table {table_of(name)}; difference from formulas {report[name]}"
    save(Path(out) / "orthogonalizers.safetensors", tensors, meta)
    document = {}
    for name, (rows, factor, note) in tables.items():
        _, repo, file = codes[name.removesuffix("_raw").removesuffix("_8")]
        if name in ("you", "polar_express_dao", "polar_express_dao_raw"):
            repo, file = "Dao-AILab/gram-newton-schulz", "gram_newton_schulz/coefficients.py"
        document[name] = dict(repository=repo, file=file, commit=src.commits[repo], norm_factor=factor, note=note,
                              rows=[list(r) for r in rows])
    (Path(out) / "coefficients.json").write_text(json.dumps(document, indent=1) + "\n")
    return report


def eo_namespace():
    """What the extracted functions of muon_utils.py import."""
    from itertools import chain, cycle, islice, repeat
    from typing import Any, Iterator, Literal, Sequence
    from absl import logging
    return dict(chain=chain, cycle=cycle, islice=islice, repeat=repeat, Any=Any, Iterator=Iterator, Literal=Literal,
                Sequence=Sequence, logging=logging, torch=torch)


def make_bf16(src, out):
    """True bf16 runs on the CPU beside float64 ones; of an output only the first rows are kept."""
    rng = np.random.default_rng(11)
    keep_rows = {(64, 64): 64, (64, 256): 16, (256, 64): 32, (128, 512): 8}
    tensors, meta = {}, {}
    for m, n in keep_rows:
        X = (rng.standard_normal((m, n)) * np.exp(0.7 * rng.standard_normal((m, 1)))).astype(np.float32)
        codes = {"jordan": (lambda: src.jordan().zeropower_via_newtonschulz5, lambda f, x: f(x, steps=5)),
                 "polar_express_1.02": (lambda: src.package("dion.polar_express").polar_express, lambda f, x: f(x, 1e-8))}
        for name, (load, call) in codes.items():
            narrow = call(load(), torch.tensor(X)).to(torch.bfloat16)
            assert narrow.dtype == torch.bfloat16
            narrow = narrow.to(torch.float32).numpy()
            with everything_float64():
                wide = call(load(), torch.tensor(X.astype(np.float64))).numpy()
            error = narrow - wide
            s = lambda A: np.linalg.svd(A, compute_uv=False)
            meta[f"{m}x{n}.{name}"] = json.dumps({
                "relative Frobenius error": float(np.linalg.norm(error) / np.linalg.norm(wide)),
                "largest absolute error": float(np.abs(error).max()),
                "spectral norm of the error": float(s(error)[0]),
                "singular values bf16": [float(s(narrow)[-1]), float(s(narrow)[0])],
                "singular values float64": [float(s(wide)[-1]), float(s(wide)[0])]})
            rows = keep_rows[m, n]
            tensors[f"{m}x{n}.{name}.bf16"] = narrow[:rows]
            tensors[f"{m}x{n}.{name}.float64"] = wide[:rows]
        tensors[f"{m}x{n}.X"] = X
    meta["source"] = "; ".join([src.name("KellerJordan/Muon", "muon.py"), src.name("microsoft/dion", "dion/polar_express.py")])
    save(Path(out) / "bf16.safetensors", tensors, meta)
    return meta


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", required=True, help="folder with the checkouts and commits.json")
    parser.add_argument("--out", required=True, help="folder to write into")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    src = Sources(arguments.sources)
    for name, text in make_bf16(src, out).items():
        print("bf16", name, text)
    for name, difference in make_orthogonalizers(src, out).items():
        print(f"orthogonalizer {name:28s} difference {difference}")
    for preset in PRESETS:
        for case in shared_cases(preset):
            file, difference, effect = make_case(case, src, out)
            print(f"{file:45s} difference {difference:.1e}  norm epsilon {effect:.1e}")


if __name__ == "__main__":
    main()
