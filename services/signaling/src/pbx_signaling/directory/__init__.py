"""What the registrar knows, at hand: accounts with their H(A1) and bindings, pushed as they change."""
