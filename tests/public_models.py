"""Public tokenizers in miniature: random weights, saved as their libraries save them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def save_vq(folder: Path, **config: Any) -> Path:
    """A VQModel of diffusers: cells of 8 x 8 pixels, 32 codes; MoVQ's normalization by default."""
    from diffusers.models.autoencoders.vq_model import VQModel

    num_levels = 4
    sizes: dict[str, Any] = {
        "block_out_channels": (32,) * num_levels,
        "down_block_types": ("DownEncoderBlock2D",) * num_levels,
        "up_block_types": ("UpDecoderBlock2D",) * num_levels,
        "num_vq_embeddings": 32,
        "latent_channels": 4,
        "norm_num_groups": 8,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VQModel(**{**sizes, **config})
        # Vectors that the encoder makes: others would nearly all be nearest to the same few.
        with torch.no_grad():
            latents = model.eval().encode(torch.rand(8, 3, 32, 32)).latents
            model.quantize.embedding.weight.copy_(latents.transpose(0, 1).flatten(1).T[::4])
    model.save_pretrained(folder)
    return folder


def save_emu3(folder: Path) -> Path:
    """Emu3's VQ of transformers: cells of 2 x 2 pixels, 32 codes."""
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    config = Emu3VQVAEConfig(
        codebook_size=32, base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1, attn_resolutions=[1]
    )
    config.hidden_size = 32
    return _save(Emu3VQVAE, config, folder)


def save_dac(folder: Path, **config: Any) -> Path:
    """DAC: 8 kHz, frames of 40 samples, 3 codebooks of 16."""
    from transformers import DacConfig, DacModel

    return _save(DacModel, DacConfig(n_codebooks=3, sampling_rate=8000, **{**_DAC, **config}), folder)


def save_encodec(folder: Path, **config: Any) -> Path:
    """EnCodec: 8 kHz, frames of 40 samples, 4 codebooks of 16 at 3.2 kbit/s."""
    from transformers import EncodecConfig, EncodecModel

    sizes: dict[str, Any] = {
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_size": 16,
        "sampling_rate": 8000,
        "upsampling_ratios": [5, 4, 2],
        "target_bandwidths": [1.6, 3.2],
        "num_lstm_layers": 1,
    }
    return _save(EncodecModel, EncodecConfig(**{**sizes, **config}), folder, _fill_encodec)


def _fill_encodec(model: Any) -> None:
    """Codebooks of vectors that the encoder makes: others would all be nearest to the same few."""
    noise = torch.randn(1, model.config.audio_channels, 40 * model.config.codebook_size)
    latents = model.eval().encoder(noise)[0].T
    model.quantizer.layers[0].codebook.embed.copy_(latents)
    for fineness, layer in enumerate(model.quantizer.layers[1:], 1):
        layer.codebook.embed.copy_((latents - latents.mean(0)).roll(fineness, 0) / 2**fineness)


def save_mimi(folder: Path) -> Path:
    """Mimi: 8 kHz, frames of 80 samples, 1 semantic and 3 acoustic codebooks of 16."""
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        sampling_rate=8000,
        hidden_size=16,
        num_filters=4,
        upsampling_ratios=[5, 4, 2],
        codebook_size=16,
        codebook_dim=8,
        num_quantizers=4,
        vector_quantization_hidden_dimension=8,
        upsample_groups=16,
        num_hidden_layers=1,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=20,
    )
    return _save(MimiModel, config, folder)


def save_higgs(folder: Path) -> Path:
    """Higgs Audio v2: 24 kHz, frames of 960 samples, 4 codebooks of 16 at 0.4 kbit/s."""
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HubertConfig

    from trimask.tokenizers.pretrained.higgs import higgs_class

    semantic = HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[4] * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    config = HiggsAudioV2TokenizerConfig(
        codebook_size=16,
        codebook_dim=8,
        target_bandwidths=[0.1, 0.2, 0.4],
        acoustic_model_config=DacConfig(**{**_DAC, "downsampling_ratios": [8, 5, 4, 2, 3]}),
        semantic_model_config=semantic,
    )
    return _save(higgs_class(), config, folder)


_DAC: dict[str, Any] = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 32,
    "downsampling_ratios": [2, 4, 5],
    "codebook_dim": 4,
    "codebook_size": 16,
}


def _save(
    model_class: Any, config: Any, folder: Path, fill: Callable[[Any], None] = lambda model: None
) -> Path:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = model_class(config)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            # Codebooks, which the libraries fill with zeros.
            if name.endswith((".embed", ".embed_sum", "embedding.weight", "codebook.weight")):
                torch.nn.init.normal_(tensor)
        fill(model)
    model.save_pretrained(folder)
    return folder
