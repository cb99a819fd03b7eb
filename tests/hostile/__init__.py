"""What attackers do at the door, row by row (README.md), and a session driven by machines."""
