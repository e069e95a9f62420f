"""SIP transactions: one RFC 3261 machine per file, tables that can be laid beside its figures."""
