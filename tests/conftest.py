"""What all tests share: one thread each (two workers run side by side), the same drawn cases every time."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("trimask", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("trimask")
