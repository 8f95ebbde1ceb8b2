"""Recipes of speech tokenizers."""

from dataclasses import replace

from trimask.tokenizer_training.speech import (
    SpeechTokenizerRun,
    SpeechTraining,
)
from trimask.tokenizers.quantizer import ResidualVectorConfig
from trimask.tokenizers.speech import SpeechTokenizerConfig
from trimask.training.optimizers import AdamWConfig


def speech_tokenizer() -> SpeechTokenizerRun:
    """The speech tokenizer that ships: 16 kHz as 25 frames a second of 4 residual codes of 512, 900 bit/s.

    Size: 1.9M parameters. Cost: about five minutes on one CPU core.
    Expect: a word error rate 7 points above that of the clips themselves, on two synthetic voices (card).
    """
    return SpeechTokenizerRun(
        tokenizer=SpeechTokenizerConfig(),
        code=SpeechTraining(
            num_steps=1600,
            batch_size=16,
            crop_frames=256,
            optimizer=AdamWConfig(learning_rate=1e-3, beta2=0.98, weight_decay=0.01),
        ),
        vocoder=SpeechTraining(
            num_steps=900,
            batch_size=8,
            crop_frames=100,
            optimizer=AdamWConfig(learning_rate=2e-3, beta2=0.98, weight_decay=0.01),
        ),
    )


def speech_tokenizer_fine() -> SpeechTokenizerRun:
    """For several voices: 16 kHz as 25 frames a second of 8 residual codes of 4,096, 200 codes a second.

    Size: 5.0M parameters. Cost: half an hour on one CPU core.
    Train it on many voices (--data); the embedded data has two, both synthetic. Expect: a word error rate 2
    points above that of the clips themselves, on new sentences by the four synthetic voices and the one
    person of its training data (experiments/).
    """
    base = speech_tokenizer()
    quantizer = ResidualVectorConfig(dim=96, codebook_size=4096, num_codebooks=8, beam_width=4)
    return replace(
        base,
        tokenizer=replace(
            base.tokenizer, autoencoder=replace(base.tokenizer.autoencoder, quantizer=quantizer)
        ),
        vocoder=replace(base.vocoder, num_steps=2000, mel_weight=2.0),
    )
