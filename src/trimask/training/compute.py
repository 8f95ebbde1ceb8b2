"""How updates are computed: settings that change only time, memory and rounding."""

import enum
from dataclasses import dataclass
from typing import final

import torch

from trimask.errors import UserError
from trimask.model.attention import AttentionBackend
from trimask.model.recompute import Recompute


class Precision(enum.Enum):
    """Precision of matrix products. Master weights, optimizer state, gradient reduction and the loss are
    always fp32.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    FLOAT8 = "float8"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """How a run's updates are computed. A resumed run may change it, on other devices or another number of
    them: results stay the same up to rounding.

    Attributes:
        micro_batch: rows per forward and backward pass on each device, with gradient accumulation; None for
            all rows at once.
        precision: None for bf16 on GPUs and fp32 on CPUs. CPUs with instructions for bf16 (AVX-512 BF16, AMX)
            are faster in it, all others many times slower.
        attention: None for the best fit to device and precision.
        recompute: what is recomputed in backward to save memory.
        compile: whether blocks are compiled: faster steps after a minute or so.
        replicas: groups of devices that each hold the whole model, sharded within the group (HSDP).
        reshard: whether gathered parameters are freed between forward and backward, to save memory.
        data_workers: processes that prefetch batches; None for 2 on GPUs and 0 on CPUs, where the step needs
            the cores.
    """

    micro_batch: int | None = None
    precision: Precision | None = None
    attention: AttentionBackend | None = None
    recompute: Recompute = Recompute.NONE
    compile: bool = False
    replicas: int = 1
    reshard: bool = True
    data_workers: int | None = None

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UserError(f"micro_batch {self.micro_batch}: must be at least 1, or none")
        if self.replicas < 1:
            raise UserError(f"replicas {self.replicas}: must be at least 1")
        if self.data_workers is not None and self.data_workers < 0:
            raise UserError(f"data_workers {self.data_workers}: must be at least 0, or none")

    def precision_on(self, device: torch.device) -> Precision:
        return self.precision or (Precision.BF16 if device.type == "cuda" else Precision.FP32)

    def data_workers_on(self, device: torch.device) -> int:
        if self.data_workers is not None:
            return self.data_workers
        return 2 if device.type == "cuda" else 0
