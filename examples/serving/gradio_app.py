"""A web page for text, pictures and speech in thirty lines of Gradio; fits a Hugging Face Space.

pip install trimask gradio
python gradio_app.py
"""

import os

import gradio
import numpy as np

import trimask

model = trimask.load(os.environ.get("TRIMASK_MODEL", "quickstart"))


def fill(prompt: str, seed: float, num_steps: float) -> tuple[object, tuple[int, np.ndarray], str]:
    """Make a picture of the prompt, a recording of it, and a text that goes on from it."""
    options = {"seed": int(seed), "num_steps": int(num_steps)}
    try:
        picture = model.generate("text_to_image", prompt, **options)
        waveform, rate = model.generate("text_to_speech", prompt, **options)
        return picture, (rate, waveform), model.generate("text", prompt, **options)
    except trimask.UserError as error:
        raise gradio.Error(str(error)) from error


with gradio.Blocks(title="trimask") as app:
    prompt = gradio.Textbox("strawberry", label="Prompt")
    seed, num_steps = gradio.Number(0, label="Seed"), gradio.Slider(1, 64, 16, step=1, label="Steps")
    picture = gradio.Image(label="Picture")
    speech = gradio.Audio(label="Speech")
    text = gradio.Textbox(label="Text")
    gradio.Button("Generate").click(fill, [prompt, seed, num_steps], [picture, speech, text], api_name="fill")

if __name__ == "__main__":
    app.launch()
