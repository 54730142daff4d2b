"""Package metadata. Install a checkout with ``pip install -c constraints.txt -e .``."""

from setuptools import find_packages, setup

setup(
    name="reid",
    version="0.1.0",
    description="Train a person matcher on one domain, test it on others, and trust the numbers.",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["reid*"]),
    package_data={"reid": ["py.typed", "kernels/native/*.cpp"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=2.0",
        "scipy>=1.14",
        "tqdm>=4.66",
        "tabulate>=0.9",
        "pillow>=11",
        "pydantic>=2.9",
        "typer>=0.15",
        "safetensors>=0.5",
        "matplotlib>=3.9",
        "tensorboard>=2.18",
        "h5py>=3.12",
        "tomli-w>=1.0",
    ],
    extras_require={
        "search": ["faiss-cpu>=1.9"],
        "dev": [
            "faiss-cpu>=1.9",
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-xdist",
            "ruff",
            "scikit-learn",
            "scipy-stubs",
            'triton; sys_platform == "linux"',
            "types-tabulate",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["reid = reid.cli:main"]},
)
