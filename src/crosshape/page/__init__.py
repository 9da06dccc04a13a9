"""The web page and the HTTP API, on this machine only."""
