"""Accounts: who may register and call, with H(A1) per algorithm instead of passwords."""
