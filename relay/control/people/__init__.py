"""Operations on people: administrators, sign-in, invitations, tokens, the audit."""
