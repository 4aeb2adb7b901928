"""What people and programs ask of a running controller: the HTTP API, the read model behind it, and the commands that
are its clients."""
