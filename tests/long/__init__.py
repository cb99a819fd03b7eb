"""What takes minutes, or what chance decides."""
