"""The Configuration Manager: pages for people and an API for programs, over the operations that the commands use too."""
