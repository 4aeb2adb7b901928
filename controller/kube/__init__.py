"""Muster's runtime on the Kubernetes API."""
