"""The API: everything that the pages do, as JSON over HTTP, with bearer tokens."""
