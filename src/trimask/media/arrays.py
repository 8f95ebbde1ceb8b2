"""Convert recordings that a table stores as arrays of samples."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import soundfile

from trimask.errors import UserError
from trimask.media.rejection import Reason, Rejected, first_line

_LARGEST_INT16 = 2**15


def is_array(value: Mapping[str, Any]) -> bool:
    """Return whether `value` is a decoded recording in the form of the library `datasets`."""
    return value.get("array") is not None and "sampling_rate" in value


def as_wav(value: Mapping[str, Any]) -> bytes:
    """Encode an array of samples as a WAV file: floats as 32-bit floats, integers as 16-bit integers.

    Raises:
        Rejected: the samples are not a numeric array with one or more channels, or have no valid rate.
    """
    rate = value["sampling_rate"]
    if not isinstance(rate, int | float) or not 0 < rate < 2**31 or rate != int(rate):
        raise Rejected(Reason.SAMPLE_RATE, f"sampling_rate {rate!r:.40} of an array: give a positive integer")
    try:
        samples = np.asarray(value["array"])
        if samples.dtype.kind not in "iuf" or samples.ndim not in (1, 2):
            raise UserError(f"{samples.ndim} dimensions of {samples.dtype}")
        if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:  # channels × samples
            samples = samples.T
        if samples.dtype.kind != "f" and np.abs(samples.astype(np.int64)).max(initial=0) > _LARGEST_INT16:
            raise UserError("integers of more than 16 bits: scale them to 16")
        kind, subtype = (np.float32, "FLOAT") if samples.dtype.kind == "f" else (np.int16, "PCM_16")
        file = io.BytesIO()
        soundfile.write(file, samples.astype(kind), int(rate), format="WAV", subtype=subtype)
    except Exception as error:  # NumPy and libsndfile raise many types
        raise Rejected(Reason.CORRUPT, f"not an array of samples: {first_line(error)}") from error
    return file.getvalue()
