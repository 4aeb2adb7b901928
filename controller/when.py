"""Times as the Kubernetes API writes them."""

from datetime import UTC, datetime


def seconds(written: str) -> float:
    """Unix time."""
    return datetime.fromisoformat(written.replace("Z", "+00:00")).timestamp()


def text(at_s: float) -> str:
    """To the second, which is what metav1.Time keeps."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
