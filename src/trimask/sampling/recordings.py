"""Recordings of what a device computes, one per shape: on a GPU, CUDA graphs.

A pass of a few sequences is hundreds of kernels that a GPU finishes sooner than the host can ask for them. A
recording asks for all at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Records a function without arguments. Returns what computes it again, on what its tensors hold by then, and
the tensor that then has the result; it need not have it before."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Recording:
    inputs: Rows[Tensor | None]
    replay: Callable[[], None]
    output: Tensor


@final
class Recordings:
    """The recordings of a function, for the shapes that it was called with.

    Shapes come and go with the sequences of a batch. So the first call of a shape computes as always (which
    also compiles, and lets libraries settle), the second records, the others replay; of `most` shapes, the
    one that was not used for longest goes first. Results are copies: the next call does not overwrite them.
    """

    def __init__(self, record: Record, *, most: int = 8):
        self.most, self._record = most, record
        self._known: OrderedDict[Hashable, _Recording | None] = OrderedDict()

    def compute(
        self, function: Callable[..., Tensor], arguments: Rows[Tensor | None], key: Hashable = None
    ) -> Tensor:
        """Return `function(*arguments)`.

        Args:
            function: depends on nothing else but `key`, and does the same for the same key.
            arguments: tensors on the device, which the function does not change.
        """
        shapes = [None if x is None else (tuple(x.shape), x.dtype) for x in arguments]
        key = (key, *shapes)
        if key not in self._known:
            self._known[key] = None
            if len(self._known) > self.most:
                self._known.popitem(last=False)
            return function(*arguments)
        self._known.move_to_end(key)
        recording = self._known[key]
        if recording is None:
            inputs = [None if x is None else torch.empty_like(x).copy_(x) for x in arguments]
            replay, output = self._record(lambda: function(*inputs))
            recording = self._known[key] = _Recording(inputs=inputs, replay=replay, output=output)
        else:
            for buffer, value in zip(recording.inputs, arguments, strict=True):
                if buffer is not None and value is not None:
                    buffer.copy_(value)
        recording.replay()
        return recording.output.clone()


@final
class GraphRecorder:
    """Records CUDA graphs. They share their memory: each replay computes all that it uses."""

    def __init__(self, device: torch.device):
        self.device = device
        self._pool: Any = None

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with torch.cuda.device(self.device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as those of a server, go on with what they do.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = function()
        return graph.replay, output
