"""What an account may send: the rules of its limits, pure, and the numbers that hold them together."""
