"""The one place that speaks to NVML: readings of every tier of every GPU, and the events that the driver sends.

Runs in a child process (`telemetry.reader`), since a call into a hung driver never returns.
"""
