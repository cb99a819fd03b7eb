"""The shell blocks of the pages, run as they stand: in a world of their own where every provider's name is ours."""
