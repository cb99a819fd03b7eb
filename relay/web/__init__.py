"""The Configuration Manager: pages for people and an API for programs, over the operations of the commands."""
