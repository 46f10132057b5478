"""Packaging of asteroid-ucr."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "asteroid_ucr/__init__.py").read_text())

# Links to other files of the repository lead nowhere on a package index: only their text stays.
readme = (here / "README.md").read_text(encoding="utf-8")
readme = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"\1", readme)
# What separating and generating need; most of it comes with Asteroid.
CORE = [
    # torchaudio must match torch: 2.11.1 allows 2.11, but loads neither with it nor with 2.12.
    "torch>=2.6,<2.12",
    "torchaudio>=2.6,<2.11.1",
    "asteroid>=0.7,<0.8",
    # Asteroid 0.7 needs these without saying so.
    "requests",
    "setuptools>=68,<81",  # the last with pkg_resources, which torchmetrics 0.11 imports
    "mir_eval<0.9",
    "huggingface_hub>=0.25",
    "safetensors>=0.4.3",
    "einops",
    "scipy",
    "numpy",
    "soundfile>=0.12",
    "pyyaml",
    "jsonargparse[signatures]>=4.30",
    "typing_extensions",
    "tqdm",
    "soxr",
]
# What data, training, evaluation and reports need besides.
RECIPE = [
    "pytorch-lightning>=2.6,<3",  # the first with a callback for weight averaging
    "fast_bss_eval",
    "museval>=0.4.1",
    "librosa>=0.10",
    "scikit-learn",
    "pandas",
    "joblib",
    "matplotlib",
    "jinja2",
    "pretty_midi",
    "pyloudnorm",
]

setup(
    name="asteroid-ucr",
    version=version.group(1),
    description="Unsupervised composable representations for audio, as a plugin for Asteroid",
    long_description=readme,
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["asteroid_ucr", "asteroid_ucr.*"]),
    include_package_data=True,
    package_data={
        "asteroid_ucr": ["py.typed", "models/*", "reports/templates/*", "minislakh/*.yml"]
    },
    python_requires=">=3.10",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="source separation, music, diffusion, unsupervised learning, asteroid",
    project_urls={"Paper": "https://arxiv.org/abs/2408.09792"},
    install_requires=CORE,
    extras_require={
        "recipe": RECIPE,
        "dev": [
            *RECIPE,
            *("pytest", "pytest-xdist", "hypothesis", "black", "ruff", "import-linter>=2.17"),
            "encodec>=0.1.1",  # tests compare with it
            "shtab",
            *("nbclient", "ipykernel"),  # the notebooks of docs/ are run
            "selenium",  # the demo is tested in Chromium (Debian: chromium, chromium-driver)
        ],
        "fuzz": ["atheris>=3"],  # tests/soak/fuzz.py
        "docs": ["mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1.0,<2"],
        "demo": [*RECIPE, "gradio>=6,<7"],
        "completion": ["shtab"],  # of the command line, in bash, zsh and tcsh
        "encodec": ["encodec>=0.1.1"],  # its code is licensed CC BY-NC 4.0
        "tensorboard": ["tensorboard"],
        "wandb": ["wandb"],
        "demucs": ["demucs>=4"],  # published weights as a row, and HTDemucs in the benchmark
    },
    entry_points={"console_scripts": ["asteroid-ucr=asteroid_ucr.cli:main"]},
)
