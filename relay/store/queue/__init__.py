"""Messages: the queue, their content, attempts, holds, and the history."""
