"""Benchmarks, their figures in the paper, and how a model is measured on them."""
