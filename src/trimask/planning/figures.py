"""Compute the cost of a run without tokenizing its data: parameters, sequences, epochs, FLOPs."""

from typing import Any

from trimask.data.mixture import target_tokens
from trimask.model.flops import count_parameters
from trimask.planning.workload import Work, workload
from trimask.runs.build import build_vocabulary
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig


def figures(config: RunConfig, tokenizers: Tokenizers | None) -> dict[str, Any]:
    """Return exact parameters, sequences and shares, and epochs and FLOPs from mean lengths of the training
    data. Stated data needs no tokenizers, and has no epochs.
    """
    vocabulary = build_vocabulary(config, tokenizers)
    count = count_parameters(config.model, vocabulary)
    works = workload(config, tokenizers)
    views = config.objective.num_views
    mixture = [_described(work, config.horizon * work.share, views) for work in works]
    targets = sum(row["target_tokens"] for row in mixture)
    for row in mixture:
        row["share"] = float(f"{row['target_tokens'] / targets:.4g}")
    flops = sum(config.horizon * work.share * work.flops for work in works)
    return {
        "parameters": {
            "total": count.total,
            "blocks": count.blocks,
            "embedding": count.embedding,
            "unembedding": count.unembedding,
        },
        "vocabulary": vocabulary.size,
        "sequences": config.horizon,
        "mixture": mixture,
        "training_flops": float(f"{flops:.3g}"),
    }


def _described(work: Work, sequences: float, num_views: int) -> dict[str, Any]:
    """Describe a component: its source's size (`tokens`) and how much the run draws. Epochs count distinct
    sequences.
    """
    task, size = work.task, work.size
    targets = sequences * target_tokens(task, size.mean_codes)
    return {
        "data": "+".join(size.mean_codes),
        "task": task.name,
        "source": work.component.source,
        "tokens": sum(size.codes.values()) if size.codes is not None else None,
        "target_tokens": round(targets),
        "sequences": round(sequences),
        "epochs": float(f"{sequences / num_views / size.drawn_per_epoch:.3g}")
        if size.drawn_per_epoch is not None
        else None,
        "token_epochs": float(f"{targets / num_views / target_tokens(task, size.codes):.3g}")
        if size.codes is not None
        else None,
    }
