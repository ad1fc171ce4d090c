"""Trains and evaluates the embedded segmenter, which finds pictograms in pictures."""
