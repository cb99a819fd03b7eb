"""Operations on the directory: servers, channels, agents, applications, scripts, accounts, and their secrets."""
