"""Every thing a prompt mentions, segmented in every image: a Ray Serve graph of Qwen3-VL and SAM3."""

__version__ = "0.1.0"
