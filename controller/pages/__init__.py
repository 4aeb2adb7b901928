"""Pages for people, on the application that serves the API: `mount` adds them. Only this package knows NiceGUI."""

from controller.pages.mounting import mount

__all__ = ["mount"]
