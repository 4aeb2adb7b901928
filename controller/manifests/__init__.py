"""What a service's plan becomes in Kubernetes, as plain objects. Pure."""
