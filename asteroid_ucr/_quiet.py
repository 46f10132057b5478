"""Silences warnings of dependencies that a user can do nothing about; imported first."""

import warnings

# torchmetrics 0.11, which Asteroid 0.7 needs, imports pkg_resources; setuptools is pinned for it.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
# EnCodec 0.1.1 builds its layers by torch's former function.
warnings.filterwarnings("ignore", message=".*weight_norm.*is deprecated", category=FutureWarning)
# Lightning 2.6 and torch 2.11 disagree about a name.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
# Cached latents are read faster in the main process than by workers.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
