"""Packaging of robust_tf. Pinned, tested versions of everything are in constraints/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "robust_tf/version.py").read_text()).group(1)


setup(
    name="robust_tf",
    version=VERSION,
    description="Adversarially robust classifiers in TensorFlow: training, attacks, evaluation",
    long_description=README.read_text() if README.exists() else "",
    long_description_content_type="text/markdown",
    author="The robust_tf authors",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["robust_tf", "robust_tf.*"]),
    # robust_tf/gin is a link to the recipes' one place, gin/, so that an installed package carries
    # them too, and importlib.resources.files("robust_tf") / "gin" finds them in a clone, an
    # editable install and a wheel alike. gin/ must not get an __init__.py: `import gin` is
    # gin-config, which wins over a plain folder of that name only.
    package_data={
        "robust_tf": ["py.typed", "gin/*.gin", "gin/**/*.gin"],
        "robust_tf.report": ["*.css", "*.js", "*.json"],
    },
    # Wide enough for both stacks; the lower bounds are the addons stack's.
    install_requires=[
        "tensorflow>=2.15,<2.22",
        "keras>=2.15,<4",
        "tensorflow-datasets>=4.9.4",
        "tensorboard>=2.15",  # tf.summary writes through it; TensorFlow 2.21 no longer brings it
        "importlib_resources>=6",  # tensorflow-datasets imports it, and does not always ask for it
        "absl-py>=2.0",
        "gin-config>=0.5",
        "scikit-learn>=1.3",
        "numpy>=1.26,<3",
        "tqdm>=4.66",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]"],
        # tensorflow-addons ended with Keras 2; newer tensorflow-datasets and tensorflow-metadata
        # want a protobuf that TensorFlow 2.15 does not take.
        "addons": [
            "tensorflow==2.15.*",
            "keras==2.15.*",
            "tensorflow-addons==0.23.*",
            "tensorflow-datasets<4.9.8",
            "tensorflow-metadata<1.17",
            "numpy<2",
            "protobuf<5",
            "setuptools<81",  # its TensorBoard imports pkg_resources
        ],
        "figures": ["matplotlib>=3.8"],
        "report": ["plotly>=6", "jinja2>=3.1"],
        "tflite": ["ai-edge-litert>=2"],
        "onnx": ["tf2onnx>=1.17", "onnx>=1.17", "onnxruntime>=1.20"],
        # Selenium drives a browser over reports, where one is installed; the tests say if not.
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
            "mypy>=1.11",
            "matplotlib>=3.8",
            "selenium>=4.20",
            "plotly>=6",
            "jinja2>=3.1",
            "ai-edge-litert>=2",
            "tf2onnx>=1.17",
            "onnx>=1.17",
            "onnxruntime>=1.20",
        ],
        "bench": ["matplotlib>=3.8"],
    },
    entry_points={
        "console_scripts": [
            f"robust-tf-{command} = robust_tf.cli.{command}:run"
            for command in ("train", "evaluate", "export", "figures", "report")
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
