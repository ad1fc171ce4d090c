"""Benchmarks: `python -m tests.benchmarks [NAME ...]`. None of them is a test, and pytest collects none."""
