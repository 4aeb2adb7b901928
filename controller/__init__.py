"""Applies plans to a cluster: the Kubernetes and HTTP adapters. Nothing is in here yet."""
