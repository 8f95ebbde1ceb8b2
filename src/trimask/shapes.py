"""Named dimensions: the words that stand in the shape annotations of this project, each with one meaning.

Annotations are jaxtyping strings, `Float[Tensor, "batch length width"]`; they are checked under test only. A
word that is missing here may be used inside one function; a word that is here means the same everywhere. The
aliases are for signatures that repeat.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

DIMENSIONS = {
    "batch": "rows that are processed together",
    "length": "positions of a row",
    "width": "features of a position in the model (the residual stream)",
    "heads": "attention heads",
    "head_dim": "features of one head",
    "vocabulary": "tokens of the id space, or of one modality's range",
    "cells": "image cells, row by row",
    "rows": "rows of an image's grid of cells",
    "columns": "columns of an image's grid of cells",
    "frames": "frames of speech, in time order",
    "samples": "samples of a waveform",
    "codebooks": "codebooks of a tokenizer",
}

Tokens = Int[Tensor, "batch length"]
Positions = Bool[Tensor, "batch length"]
Times = Float[Tensor, "batch"]
Logits = Float[Tensor, "batch length vocabulary"]
