"""How fast the device multiplies and copies: what the other figures are measured against."""

from typing import Any

import torch
from setting import Part, Setting, timed

# Rows of a pass at the reference geometry, and the matrices of the pilot and of 3B that they meet.
_PRODUCTS = {
    "square_8192": (8192, 8192, 8192),
    "pilot_qkv": (16384, 1024, 3072),
    "pilot_gate_up": (16384, 1024, 5504),
    "3b_qkv": (16384, 2816, 8448),
    "3b_gate_up": (16384, 2816, 15040),
    "3b_down": (16384, 7520, 2816),
    "3b_text_head": (8192, 2816, 100_272),
}
_TINY = {"square_64": (64, 64, 64)}
_COPIED = 2**32


def run(setting: Setting, part: Part) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        kind = str(dtype).removeprefix("torch.")
        for name, shape in (_TINY if setting.is_tiny else _PRODUCTS).items():
            part.attempt(f"{kind}_products/{name}", lambda s=shape, d=dtype: _product(setting, s, d), needs=2)
            if dtype is torch.float32:
                break  # tf32 is off, as in training: one shape will do
    for name, shape in (_TINY if setting.is_tiny else _PRODUCTS).items():
        part.attempt(f"float8_products/{name}", lambda s=shape: _float8_product(setting, s), needs=2)
    part.attempt("copy", lambda: _copy(setting))


def _product(setting: Setting, shape: tuple[int, int, int], dtype: torch.dtype) -> dict[str, Any]:
    rows, inner, columns = shape
    a = torch.randn(rows, inner, device=setting.device).to(dtype)
    b = torch.randn(columns, inner, device=setting.device).to(dtype).T
    return _figures(shape, timed(setting, lambda: a @ b))


def _float8_product(setting: Setting, shape: tuple[int, int, int]) -> dict[str, Any]:
    """One scale a tensor; bf16 comes out."""
    rows, inner, columns = shape
    a = torch.randn(rows, inner, device=setting.device).to(torch.float8_e4m3fn)
    b = torch.randn(columns, inner, device=setting.device).to(torch.float8_e4m3fn).T
    one = torch.ones((), device=setting.device)

    def product() -> torch.Tensor:
        return torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]  (no public name)
            a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=setting.on_gpu
        )

    return _figures(shape, timed(setting, product))


def _figures(shape: tuple[int, int, int], seconds: dict[str, float]) -> dict[str, Any]:
    rows, inner, columns = shape
    return {
        "shape": shape,
        "seconds": seconds,
        "flops_per_second": 2 * rows * inner * columns / seconds["median"],
    }


def _copy(setting: Setting) -> dict[str, Any]:
    """From memory to memory of the device; bytes read and written both count."""
    size = 2**20 if setting.is_tiny else _COPIED
    source = torch.randint(0, 127, (size,), dtype=torch.int8, device=setting.device)
    target = torch.empty_like(source)
    seconds = timed(setting, lambda: target.copy_(source))
    return {"bytes": size, "seconds": seconds, "bytes_per_second": 2 * size / seconds["median"]}
