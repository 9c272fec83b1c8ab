"""Packaging; everything else about the tools (linter, types, tests) is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="dl_lib",
    version="0.1.0",
    description="Training semantic segmentation networks that choose their route image by image (dynamic routing).",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The dl_lib authors",
    keywords=["semantic segmentation", "dynamic routing", "conditional computation", "pytorch"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["dl_lib", "dl_lib.*"]),
    package_data={"dl_lib": ["py.typed"]},
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6,<3",
        "torchvision>=0.21,<1",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.9",
        "yacs>=0.1.8",
        "PyYAML>=6.0",
        "numpy>=1.26",
        "matplotlib>=3.8",
        "opencv-python-headless>=4.11",
        "pillow>=10.1",
        "pycocotools>=2.0.8",
        "safetensors>=0.4.5",
        "tensorboard>=2.15",
        "tabulate>=0.9",
        "termcolor>=2.3",
        "tqdm>=4.66",
    ],
    extras_require={
        "quickstart": ["scikit-learn>=1.3"],
        "cityscapes": ["cityscapesScripts>=2.2.4"],
        "voc": ["scipy>=1.11"],
        "test": [
            "cityscapesScripts>=2.2.4",
            "hypothesis>=6.100",
            "mypy>=1.13",
            "pytest>=8.2",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "scikit-learn>=1.3",
            "scipy>=1.11",
            "timm>=1.0.31",
            "types-PyYAML>=6.0",
        ],
    },
    entry_points={
        "console_scripts": [
            "dl_lib = dl_lib.cli.main:main",
            "dl_train = dl_lib.cli.train:main",
            "dl_test = dl_lib.cli.evaluate:main",
        ]
    },
)
