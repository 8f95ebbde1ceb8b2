"""Model the time of an update, its communication, and how often to save: matrix products at a share of the
peak (MFU), communication at full bandwidth without latency.
"""

import math
from dataclasses import dataclass
from typing import final

from trimask.model.flops import count_parameters
from trimask.planning.memory import MemoryModel

_FP32 = 4


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """Bytes that each device receives in an update, and the seconds that takes.

    Attributes:
        gathered: parameters, in the precision of the products: before forward and, with resharding, those of
            blocks again before backward.
        scattered: gradients in fp32, reduced within the group that holds the model.
        replicated: gradients in fp32, reduced over such groups (HSDP).
    """

    gathered: float
    scattered: float
    replicated: float
    seconds: float

    @property
    def total(self) -> float:
        return self.gathered + self.scattered + self.replicated


def exchange(memory: MemoryModel, *, num_passes: int) -> Exchange:
    """Return the communication of an update of `num_passes` passes, each of which gathers parameters and
    reduces gradients (FSDP2)."""
    count = count_parameters(memory.model, memory.vocabulary)
    group, replicas, hardware = memory.group, memory.compute.replicas, memory.hardware
    others = (group - 1) / group
    again = count.blocks if memory.compute.reshard else 0
    gathered = num_passes * others * memory.element * (count.total + again)
    scattered = num_passes * others * _FP32 * count.total
    replicated = num_passes * 2 * (replicas - 1) / replicas * _FP32 * count.total / group
    among = hardware.node_bandwidth if memory.num_devices <= hardware.per_node else hardware.network_bandwidth
    seconds = (gathered + scattered) / hardware.gather_bandwidth(group) + replicated / among
    return Exchange(gathered=gathered, scattered=scattered, replicated=replicated, seconds=seconds)


def saving_interval(*, write_seconds: float, failure_seconds: float) -> float:
    """Return the seconds between checkpoints that minimize lost time: √(2 · write · mean time between
    failures) [L: Young 1974]. Saving in the background costs less, so this is an upper bound.
    """
    return math.sqrt(2 * write_seconds * failure_seconds)
