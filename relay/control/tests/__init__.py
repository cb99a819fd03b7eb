"""Operations that try something: connections, test messages, the doctor."""
