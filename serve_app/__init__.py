"""Every thing a prompt mentions, segmented in every image: a Ray Serve graph of Qwen3-VL and SAM3."""

__version__ = "0.2.0"
