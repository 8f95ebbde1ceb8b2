"""The attention backends at the reference row: forward and backward pass over packed text, pictures and
speech, in heads of 128.
"""

from typing import Any

import torch
import torch.nn.functional as F
from setting import Part, Setting, timed
from torch import Tensor

from trimask.model.attention import AttentionBackend, Documents, attend

_ROWS, _ROW, _HEADS, _HEAD_DIM = 8, 3256, 8, 128
# Positions of the documents of a row.
_CONTENTS = {
    "text_that_fills_rows": [3256],
    "packed_text": [1000, 700, 500, 400, 300, 200, 100, 56],
    "pictures": [1093],
    "speech": [3231],
}
_TINY = {"packed_text": [30, 20, 14], "pictures": [21]}


def run(setting: Setting, part: Part) -> None:
    rows, row, heads, head_dim = (2, 64, 2, 16) if setting.is_tiny else (_ROWS, _ROW, _HEADS, _HEAD_DIM)
    part.note("shape", {"rows": rows, "row": row, "heads": heads, "head_dim": head_dim})
    for name, lengths in (_TINY if setting.is_tiny else _CONTENTS).items():
        for backend in (*AttentionBackend, None):
            part.attempt(
                f"{name}/{'dense' if backend is None else backend.value}",
                lambda b=backend, n=lengths: _measured(setting, b, n * rows, row, heads, head_dim),
                needs=3,
            )


def _measured(
    setting: Setting,
    backend: AttentionBackend | None,
    lengths: list[int],
    row: int,
    heads: int,
    head_dim: int,
) -> dict[str, Any]:
    """`backend` None is one dense call over padded rows, with a mask."""
    if not setting.on_gpu and backend in (AttentionBackend.VARLEN, AttentionBackend.FLEX):
        return {"impossible": "this backend has no backward pass on a CPU"}
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    documents = None
    found: dict[str, Any] = {}
    if backend is not None:

        def describe() -> Documents:
            return Documents.of(boundaries, backend, setting.device)

        documents = describe()
        found["description_seconds"] = timed(setting, describe, seconds=0.2)
    mask = _dense_mask(setting, lengths, row) if documents is None else None
    shape = (sum(lengths), heads, head_dim) if mask is None else (len(mask), heads, row, head_dim)
    dtype = torch.bfloat16 if setting.on_gpu else torch.float32
    q, k, v = (torch.randn(shape, device=setting.device, dtype=dtype, requires_grad=True) for _ in range(3))
    upstream = torch.randn(shape, device=setting.device, dtype=dtype)

    def forward() -> Tensor:
        if documents is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attend(q, k, v, documents)

    def both() -> None:
        torch.autograd.grad(forward(), (q, k, v), upstream)

    with torch.no_grad():
        found["forward_seconds"] = timed(setting, forward)
    found["seconds"] = timed(setting, both)
    # Two products forward, four backward: what is needed, whatever is computed.
    flops = 12 * sum(n * n for n in lengths) * heads * head_dim
    found["needed_flops_per_second"] = flops / found["seconds"]["median"]
    return found


def _dense_mask(setting: Setting, lengths: list[int], row: int) -> Tensor:
    """Documents in rows, in order; padding sees itself, lest its softmax be over nothing."""
    rows: list[list[int]] = []
    for length in lengths:
        if not rows or sum(rows[-1]) + length > row:
            rows.append([])
        rows[-1].append(length)
    number = torch.full((len(rows), row), -1)
    for place, members in enumerate(rows):
        start = 0
        for document, length in enumerate(members):
            number[place, start : start + length] = document
            start += length
    number = number.to(setting.device)
    return (number[:, None, :, None] == number[:, None, None, :]).contiguous()
