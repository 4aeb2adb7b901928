"""Watches GPUs while they work: samples, detectors, energy. Nothing is in here yet."""
