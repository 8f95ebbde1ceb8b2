"""Recordings that a table holds as samples rather than as a file."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import soundfile

from trimask.errors import UserError
from trimask.media.rejection import Reason, Rejected, first_line

_LARGEST_INT16 = 2**15


def is_array(value: Mapping[str, Any]) -> bool:
    """Whether it is what the library `datasets` decodes a recording to."""
    return value.get("array") is not None and "sampling_rate" in value


def as_wav(value: Mapping[str, Any]) -> bytes:
    """The file of a recording: floats as they are, integers as 16 bits.

    Raises:
        Rejected: the samples are no array of one or several channels, or have no rate.
    """
    rate = value["sampling_rate"]
    if not isinstance(rate, int | float) or not 0 < rate < 2**31 or rate != int(rate):
        raise Rejected(Reason.SAMPLE_RATE, f"sampling_rate {rate!r:.40} of an array")
    try:
        samples = np.asarray(value["array"])
        if samples.dtype.kind not in "iuf" or samples.ndim not in (1, 2):
            raise UserError(f"{samples.ndim} dimensions of {samples.dtype}")
        if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:  # a row is a channel
            samples = samples.T
        if samples.dtype.kind != "f" and np.abs(samples.astype(np.int64)).max(initial=0) > _LARGEST_INT16:
            raise UserError("integers of more than 16 bits")
        kind, subtype = (np.float32, "FLOAT") if samples.dtype.kind == "f" else (np.int16, "PCM_16")
        file = io.BytesIO()
        soundfile.write(file, samples.astype(kind), int(rate), format="WAV", subtype=subtype)
    except Exception as error:  # what NumPy or libsndfile trips over
        raise Rejected(Reason.CORRUPT, f"no array of samples: {first_line(error)}") from error
    return file.getvalue()
