"""A cluster inside the process: objects in SQLite, nodes that run replicas, traffic that is simulated."""
