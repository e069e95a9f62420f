"""Where the registrar keeps things: bindings and the authentication ledger in Redis, accounts in SQL."""
