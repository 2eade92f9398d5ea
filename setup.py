"""Packaging of `fr`: `pip install -e .` and the extras `test`, `tasks`, `board`, `torch`."""

from setuptools import find_packages, setup

setup(
    name="fr",
    version="0.1.0",
    description="Failed reasoning: signals, routing and training from the shape of a model's failures, in JAX",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["fr", "fr.*"]),
    package_data={"fr": ["assets/*/*"]},
    install_requires=[
        "absl-py",
        "chex",
        "etils[epath]",
        # flax 0.12.8, the newest for Python 3.11, breaks with jax 0.11.1 and later; pip pairs them by itself.
        "flax>=0.12.8,<0.13",
        "gguf",
        "huggingface_hub",
        "jax>=0.10.2,<0.13",
        "jaxtyping",
        "jinja2",  # chat templates; transformers asks for it when it meets one
        "math-verify",  # equality of formulas
        "matplotlib",
        "ml_collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pyarrow",
        "safetensors",
        "scikit-learn",
        "scipy",
        "threadpoolctl",
        "tokenizers",
        "tqdm",
        "transformers>=5",
    ],
    extras_require={
        "test": ["pytest", "pytest-xdist", "pandas", "polars", "duckdb"],
        "parity": ["torch==2.13.0", "accelerate"],
        "tasks": ["reasoning-gym"],
        "board": ["tensorboardX"],
        "docs": ["mkdocs-material"],
    },
)
