"""dLLM's update (github.com/ZHZisZZ/dllm), from a checkout: its MDLM trainer on its bidirectional Qwen3.

`MDLMTrainer.training_step` is Hugging Face's with dLLM's loss; clipping and optimizer are the trainer's own.
The loop around it (loader, callbacks, logging) is left out. Qwen3 has RMSNorm, QK-norm, SwiGLU and RoPE, as
trimask's denoiser does.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import torch
from shape import Shape
from tokens import text_tokens, tokenizer_of
from worker import System, parameters_by_part, serve


def build(shape: Shape, source: Path) -> System:
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    a2d = importlib.import_module("dllm.pipelines.a2d")
    trainers = importlib.import_module("dllm.core.trainers")
    config = a2d.A2DQwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        head_dim=shape.width // shape.num_heads,
        max_position_embeddings=shape.length,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = trainers.MDLMConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            report_to="none",
            eval_strategy="no",
            save_strategy="no",
            max_steps=10_000,
            learning_rate=3e-4,
        )
        trainer = trainers.MDLMTrainer(
            args=arguments, model=a2d.A2DQwen3LMHeadModel(config), processing_class=tokenizer_of(shape)
        )
    trainer.create_optimizer_and_scheduler(arguments.max_steps)
    trainer.current_gradient_accumulation_steps = 1
    model, optimizer = trainer.model, trainer.optimizer
    tokens = text_tokens(shape)

    def update() -> float:
        # As its collator makes it (DataCollatorForSeq2Seq): labels of all tokens, and a mask of ones.
        inputs = {"input_ids": tokens, "labels": tokens, "attention_mask": torch.ones_like(tokens)}
        loss = trainer.training_step(model, inputs)
        trainer.accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
        optimizer.step()
        trainer.lr_scheduler.step()
        model.zero_grad()
        return loss.item()

    parameters = parameters_by_part(model, embedding="embed_tokens|lm_head")
    return System(update=update, parameters=parameters, packages=("torch", "transformers", "accelerate"))


if __name__ == "__main__":
    serve(build)
