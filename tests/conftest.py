"""Settings of every test: one thread, and hypothesis without a deadline or a database."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("m3d", deadline=None, database=None, derandomize=True, max_examples=40)
settings.load_profile("m3d")
