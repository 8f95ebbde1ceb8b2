"""MDLM's update (github.com/kuleshov-group/mdlm), from a checkout: its DiT, its loss, its AdamW.

`Diffusion._loss` is what its training step computes; Lightning's trainer, the logged metrics, the average of
the weights (EMA) and dropout are left out. Its configuration files are read and changed in the shape alone.
"""

import importlib
import importlib.util
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import flash_attn_on_cpu
import torch
from shape import Shape
from tokens import text_tokens, tokenizer_of
from worker import System, parameters_by_part, serve


def build(shape: Shape, source: Path) -> System:
    diffusion = _import(source)
    tokenizer = tokenizer_of(shape)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)  # the model also wants one by name, to judge samples with
        model = diffusion.Diffusion(_config(shape, source, folder), tokenizer)
    (optimizer,), _ = model.configure_optimizers()
    _fill_zeros(model.backbone)
    model.on_train_epoch_start()
    tokens = text_tokens(shape)
    attention_mask = torch.ones_like(tokens)

    def update() -> float:
        optimizer.zero_grad()
        loss = model._loss(tokens, attention_mask).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.config.trainer.gradient_clip_val)
        optimizer.step()
        return loss.item()

    parameters = parameters_by_part(
        model.backbone,
        embedding="vocab_embed|output_layer.linear",
        conditioning="adaLN_modulation|sigma_map",
    )
    return System(update=update, parameters=parameters, packages=("torch", "lightning", "transformers"))


@cache
def _import(source: Path) -> ModuleType:
    """The checkout's module `diffusion`."""
    sys.path.insert(0, str(source))
    flash_attn_on_cpu.install()
    # Without their __init__: MDLM's imports dimamba, whose kernels are CUDA's; timm's imports torchvision,
    # and a schedule is all that is wanted of it.
    _open("models")
    _open("timm")
    importlib.import_module("models.dit")
    importlib.import_module("models.ema")
    return importlib.import_module("diffusion")


def _config(shape: Shape, source: Path, tokenizer_folder: str):
    load = importlib.import_module("omegaconf").OmegaConf.load
    config = load(source / "configs" / "config.yaml")
    for group, name in (("model", "small"), ("noise", "loglinear"), ("lr_scheduler", "constant_warmup")):
        config[group] = load(source / "configs" / group / f"{name}.yaml")
    config.model.update(
        hidden_size=shape.width,
        n_blocks=shape.depth,
        n_heads=shape.num_heads,
        length=shape.length,
        dropout=0.0,
    )
    config.training.ema = 0
    config.eval.gen_ppl_eval_model_name_or_path = tokenizer_folder
    return config


def _open(package: str) -> None:
    """Make `package` importable in parts, without what its __init__ would import."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"there is no package {package}")
    sys.modules[package] = importlib.util.module_from_spec(spec)


@torch.no_grad()
def _fill_zeros(model: torch.nn.Module) -> None:
    """Gates and head start at zero; with weights as later in training no product is with zeros."""
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.02)


if __name__ == "__main__":
    serve(build)
