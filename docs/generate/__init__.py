"""The reference pages and the manual pages, made from the code: `make docs` writes them, a test compares them.

What can be read off the code is: settings, keys of directory.toml, commands, replies, answers of servers, providers.
What a reply is about, and what to do then, stands in replies.toml; a test finds a reply that is missing there, and one
that there is no more.
"""
