"""What the files of Postfix and msmtp say about senders, as entries of the directory: for `relay import`.

Only `files` does I/O; it runs nothing but `postmap -s`. What is not taken over is noted with file, line and reason:
nothing is left out silently. A password is never shown.
"""
