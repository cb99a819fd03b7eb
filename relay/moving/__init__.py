"""What the files of other programs say about who sends by which server and account, as Relay's own entries."""
