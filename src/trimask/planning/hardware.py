"""What devices can do by their makers' data sheets: peaks without sparsity, and what a process can allocate.

Sources: NVIDIA's data sheets of H100 (SXM5), H200, A100 (SXM4, 80 GB), B200 (HGX) and L40S, which state peaks
with sparsity: half of them here. Memory is what torch reports, a little below the name. Links between
machines are those of the makers' own servers (one 400 Gb/s port a GPU; A100 and L40S: 200 Gb/s). The CPU is
two cores with AVX2, as measured there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

GIB = 2**30


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """A kind of device.

    Attributes:
        memory: bytes that can be allocated; None where it differs from machine to machine.
        peak: FLOP/s of dense products in the precision that it trains in: bf16 on GPUs, fp32 on CPUs. MFU is
            a share of it, with float8 too.
        per_node: devices of a machine.
        node_bandwidth, network_bandwidth: bytes/s in each direction of a device, to those of its machine and
            to others. What all devices of a machine gather comes over all of its links, once.
        context: bytes that a process takes before any tensor of ours [D].
        fragments: share of what tensors take that the allocator loses between them [D].
    """

    name: str
    memory: float | None
    peak: float
    per_node: int
    node_bandwidth: float
    network_bandwidth: float
    context: float
    fragments: float

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"

    def gather_bandwidth(self, num_devices: int) -> float:
        """Bytes/s at which each of a group gathers what all have."""
        if num_devices <= self.per_node:
            return self.node_bandwidth
        return min(self.node_bandwidth, self.per_node * self.network_bandwidth)


def _gpu(name: str, *, memory: float, peak: float | int, node: float | int, network: float | int) -> Hardware:
    # The CUDA context, the kernels' own workspaces and NCCL's buffers: about 1.5 GiB [D]. The caching
    # allocator keeps blocks in sizes of its own: 5 % [D].
    return Hardware(
        name=name,
        memory=memory * GIB,
        peak=peak * 1e12,
        per_node=8,
        node_bandwidth=node * 1e9,
        network_bandwidth=network * 1e9,
        context=1.5 * GIB,
        fragments=0.05,
    )


HARDWARE: Mapping[str, Hardware] = MappingProxyType(
    {
        "h100": _gpu("h100", memory=79.1, peak=989.4, node=450, network=50),
        "h200": _gpu("h200", memory=139.8, peak=989.4, node=450, network=50),
        "a100": _gpu("a100", memory=79.1, peak=312, node=300, network=25),
        "b200": _gpu("b200", memory=178.3, peak=2250, node=900, network=50),
        "l40s": _gpu("l40s", memory=44.4, peak=362, node=32, network=25),
        # The C library keeps what is freed below 32 MB: 5 to 24 % more (tests/planning/test_plan.py).
        "cpu": Hardware(
            name="cpu",
            memory=None,
            peak=0.15e12,
            per_node=1,
            node_bandwidth=1e9,
            network_bandwidth=1e9,
            context=0.5 * GIB,
            fragments=0.15,
        ),
    }
)
"""By the name that `trimask plan --device` takes."""
