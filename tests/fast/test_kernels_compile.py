"""Kernels compile for a GPU where there is none: what the interpreter runs may still be no program for the compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from detector.fast import group_norm_kernel, nms_kernel, nms_mask_kernel, roi_align_kernel

POINTERS = {"boxes": "*fp32", "valid": "*u8", "groups": "*i64", "kept": "*i64", "rois": "*fp32", "bias": "*fp32",
            "levels": "*i64", "table": "*i64", "words": "*i64"}
def build(function, choices, divides=True, **types):
    signature = {n: types.get(n, POINTERS.get(n, "i32")) for n in function.arg_names}
    signature |= {n: "constexpr" for n in choices} | {n: "fp32" for n in ("threshold", "scale") if n in signature}
    options = {"num_warps": 4 if "words" in signature else 8, "enable_fp_fusion": False}
    source = ASTSource(fn=function, signature=signature, constexprs=choices)
    code = compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    assert ("div.rn" in code) == divides and "div.full" not in code and "fma" not in code
pooling = {"aligned": True, "width_block": 16, "block": 128, "samples": 4}
for grouped in (True, False):
    build(nms_kernel._scan, {"grouped": grouped, "block": 64, "chunk": 128})
    build(nms_mask_kernel._compare, {"grouped": grouped, "block": 64, "rows": 128, "columns": 4})
build(nms_mask_kernel._scan_words, {"block": 64, "chunk": 1024}, divides=False)
for kind in ("bf16", "fp32"):
    for pyramid in (True, False):
        finish = {"has_bias": not pyramid, "relu": not pyramid, "pyramid": pyramid}
        build(roi_align_kernel.forward_kernel, pooling | finish, maps="*" + kind, out="*" + kind)
        build(roi_align_kernel.backward_kernel, pooling | {"pyramid": pyramid}, maps="*fp32", bins_gradient="*" + kind)
floats = dict.fromkeys(("weight", "bias", "means", "scales", "of_weight", "of_bias"), "*fp32")
for kind, of_group, block in (("bf16", 16, 64), ("bf16", 64, 64), ("fp32", 12, 256)):
    shape = {"of_group": of_group, "cell_block": block, "channel_block": 1 << (of_group - 1).bit_length()}
    maps = dict.fromkeys(("maps", "out", "gradient", "of_maps"), "*" + kind)
    for relu in (True, False):
        for kernel in (group_norm_kernel._forward, group_norm_kernel._backward):
            build(kernel, shape | {"relu": relu}, **maps, **floats, groups="i32", count="fp32", eps="fp32")
print("all compiled")
"""


@pytest.mark.slow
def test_for_an_h100(project_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"PYTHONPATH": str(project_root), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "all compiled", done.stderr
