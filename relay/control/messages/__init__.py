"""Operations on messages: the queue and the history."""
